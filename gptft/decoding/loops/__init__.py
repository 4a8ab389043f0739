"""Generation loops that transformers doesn't have, for `model.generate(custom_generate=...)`."""
