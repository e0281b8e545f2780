"""Writes ``tests/golden/losses.json``: python -m tests.parity.make_losses, in the environment of `make parity`."""

from __future__ import annotations

from tests.parity import golden, theirs
from tests.parity.cases import all_cases

if __name__ == "__main__":
    golden.write("losses", [(case, theirs.run(case)) for case in all_cases()])
