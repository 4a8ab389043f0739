"""One prompt, many strategies, side by side."""
