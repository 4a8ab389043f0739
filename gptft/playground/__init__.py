"""A loaded model -> a page on this machine to try it on."""
