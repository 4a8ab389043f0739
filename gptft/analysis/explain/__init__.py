"""A model and a prompt -> what each part of the model does to the next token."""
