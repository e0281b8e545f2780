"""What a model answers: sampling, key-value caches, many prompts at once."""
