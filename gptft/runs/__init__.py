"""The run folder: its layout, checkpoints, status, and one reader."""
