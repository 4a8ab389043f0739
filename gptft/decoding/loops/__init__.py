"""Generation loops that transformers doesn't have."""
