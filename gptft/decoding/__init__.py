"""A model folder and a prompt -> text."""
