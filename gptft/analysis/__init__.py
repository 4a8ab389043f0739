"""A model and text -> what the model knows: scores, predictions, reasons, copies."""
