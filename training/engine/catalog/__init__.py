"""What can be asked for: one table per kind of thing, one row per thing.

A row names its typed settings and, as a dotted path, the workshop code that carries it out, so that
reading the catalog imports no array library. Forms, API schemas, command-line flags, validation and
tests are made by walking these tables. To add a thing: one file, one row (``docs/howto/``).
"""
