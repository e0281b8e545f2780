"""Examples out of this Python's own docstrings: clean, steady, and split without leaks."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict

import pytest

from training.engine.catalog.formats import FORMATS
from training.engine.data import python_docs
from training.engine.data.python_docs import Doc, assign, clean, spread


@pytest.fixture(scope="module")
def docs() -> list[Doc]:
    return python_docs.collect()


@pytest.mark.parametrize(
    ("docstring", "summary"),
    [
        ("Recursively copy a directory tree.\n\n  More.", "Recursively copy a directory tree."),
        ("return the sum\nof two numbers", "Return the sum of two numbers."),
        ("gmtime([seconds]) -> (tm_year,\n   tm_mon)\n\nConvert seconds to a tuple.", "Convert seconds to a tuple."),
        ("f(a, b)\nDo something with a and b.", "Do something with a and b."),
        ("Uses :func:`~os.walk` and ``shutil``.", "Uses `os.walk` and `shutil`."),
        ("x" * 150 + ". " + "y" * 100 + ". Z.", "X" + "x" * 149 + "."),
        ("Too short.", ""),
        (">>> print('this is an example')", ""),
        ("The following are known functions:", ""),
        ("Résumé of a page of text here.", ""),
        (None, ""),
    ],
)
def test_clean(docstring: str | None, summary: str) -> None:
    assert clean(docstring) == summary


def test_a_known_function() -> None:
    row = Doc("shutil", "copytree", "function", "Copy a tree.").row
    assert row["messages"][1]["content"] == (
        "`shutil.copytree` is a function of the Python module `shutil`.\n\nSummary: Copy a tree.\n\n"
        "Import it with `from shutil import copytree`."
    )


def test_what_is_said_to_be_importable_is(docs: list[Doc]) -> None:
    shown = [doc for doc in docs if doc.package in ("shutil", "math", "json", "os", "itertools", "xml")]
    lines = [doc.row["messages"][1]["content"].rpartition("`from ")[2].removesuffix("`.") for doc in shown]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(f"from {line}" for line in lines)], capture_output=True, timeout=60
    )
    assert len(lines) > 100
    assert done.returncode == 0, done.stderr


def test_every_row_is_a_good_chat(docs: list[Doc]) -> None:
    assert len(docs) > 1000
    assert all(FORMATS["chat"].normalise(doc.row) == doc.row for doc in docs)
    assert len({doc.summary.lower() for doc in docs}) == len(docs)


def test_nothing_is_imported_that_acts(docs: list[Doc]) -> None:
    code = (
        "import sys; from training.engine.data.python_docs import collect; collect(); "
        "print(*(name in sys.modules for name in ('this', 'tkinter')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)
    assert done.stdout.split() == [b"False", b"False"]
    assert not {doc.package for doc in docs} & {"antigravity", "this", "idlelib"}


def test_limit_is_spread_over_packages(docs: list[Doc]) -> None:
    chosen = spread(docs, 300)
    sizes = defaultdict(int)
    for doc in chosen:
        sizes[doc.package] += 1
    assert len(chosen) == 300
    assert len(sizes) == len({doc.package for doc in docs})
    assert max(sizes.values()) <= 4


@pytest.mark.parametrize("seed", range(5))
def test_no_package_is_in_two_splits(docs: list[Doc], seed: int) -> None:
    chosen = spread(docs, 600)
    splits = assign(chosen, 0.1, 0.05, seed)
    counted = defaultdict(int)
    for doc in chosen:
        counted[splits[doc.package]] += 1
    assert 55 <= counted["valid"] <= 60
    assert 25 <= counted["test"] <= 30


def test_same_rows_in_every_process() -> None:
    code = (
        "import hashlib; from training.engine.data.python_docs import rows; "
        "print(hashlib.sha256(repr([(p.split, r.row) for p, r in rows(600, .1, .05, 42)]).encode()).hexdigest())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, timeout=60, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
