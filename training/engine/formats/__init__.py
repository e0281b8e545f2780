"""Row formats of data sets: one file each, independent of each other.

A format module has two functions. ``recognise(row)`` returns half a sentence that says why the row
looks like this format, or "". ``normalise(row)`` returns the row in the normal form that stands on
the disk, or *all* its problems. The normal form is what stock mlx-lm reads: ``messages``, or
``prompt`` and ``completion``, or ``text``.

To add one: a file here and a row in ``catalog/formats.py`` (``docs/howto/add-a-format.md``).
"""
