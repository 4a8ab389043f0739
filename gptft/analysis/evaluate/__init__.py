"""Models and documents -> how well each model predicts each document."""
