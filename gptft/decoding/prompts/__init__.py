"""Where prompts come from, and how they are put to a model."""
