"""What training methods share: notes made before the first step, answers collected on the way, other models."""
