"""Input formats, a file each; `registry` lists them."""
