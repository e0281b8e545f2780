"""Loss functions: arrays in, one value per target or example out. They know neither methods nor data."""
