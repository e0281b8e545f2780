"""Tests beside other people's code. They need the extra ``parity``; without PyTorch there is nothing to collect."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator

import pytest

from tests.parity.table import Checked, Found, write

collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["test_*.py"]


@pytest.fixture(scope="session")
def checked(request: pytest.FixtureRequest) -> Iterator[Checked]:
    """Notes a comparison for the table in docs/methods.md, which a green run with WRITE=1 renews."""
    found: list[Found] = []
    yield lambda *fields: found.append(Found(*fields))
    if os.environ.get("WRITE") and not request.session.testsfailed:
        write(found)
