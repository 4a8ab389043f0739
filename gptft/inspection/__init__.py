"""What `gptft tokenize` shows: of a text, of a tokenizer, of a corpus."""
