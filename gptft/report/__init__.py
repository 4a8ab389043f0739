"""A run folder -> what a person reads about it."""
