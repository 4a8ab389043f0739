"""What a person names -> files -> documents."""
