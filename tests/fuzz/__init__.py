"""The command line driven with generated configs, run folders and model folders."""
