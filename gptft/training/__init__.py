"""Blocks and a base model -> a run folder with a model in it."""
