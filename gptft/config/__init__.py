"""YAML -> frozen, typed sections, with every problem at its line and column."""
