"""What lies in model folders, told from files alone. Touches no arrays."""
