"""Optimizers that torch doesn't have."""
