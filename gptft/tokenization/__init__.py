"""Tokenizer files -> a tokenizer; text -> token ids and their bytes; new tokenizers."""
