"""Kinds of steps: one file each, one row each in ``catalog.py``; they do not know each other."""
