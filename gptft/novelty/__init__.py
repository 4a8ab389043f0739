"""A run folder and texts -> how much of them is copied from the training text, and from where."""
