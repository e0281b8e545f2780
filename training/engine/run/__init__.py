"""A run and who works at it: its folder, its journal, its session, its ranks. Touches no arrays."""
