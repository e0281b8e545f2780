"""The loop, the only one: micro-batches in, updates and checkpoints out."""
