"""What can be asked of each command, and every problem with it at once. Touches no arrays."""
