"""Where a base model comes from: its name, its files, its dtype and device, the bundled model."""
