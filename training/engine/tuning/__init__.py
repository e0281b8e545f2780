"""What of a model is trained: adapters put in, taken out, and translated to PEFT and back."""
