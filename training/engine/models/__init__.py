"""A model at work: opened, taken apart into body and head, its tokenizer and its chat template."""
