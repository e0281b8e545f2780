"""Rules that score an answer: one file each, independent of each other.

A rule is made once from its settings and has ``score(prompt, answer, reference, tokens)``: the chat messages
before the answer, its text, the reference answer or None, and its number of tokens. It returns a finite number,
between 0 and 1 for all but functions of a person's own.

To add one: a file here, settings and a row in ``catalog/rules.py``.
"""
