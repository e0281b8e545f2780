"""Small pieces: functions up to 50 lines, files up to 400, names that say something."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OWN = [
    p
    for top in ("mlxplatform", "training", "registry", "pipelines", "tests")
    for p in sorted((ROOT / top).rglob("*.py"))
    if "migrations" not in p.parts
]
LONGEST_FILE, LONGEST_FUNCTION = 400, 50
#: Files and functions that may be longer, each with its reason.
EXCEPTIONS: dict[str, str] = {}


@pytest.mark.parametrize("path", OWN, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_and_its_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    name = str(path.relative_to(ROOT))
    if name not in EXCEPTIONS:
        assert text.count("\n") <= LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and f"{name}:{node.name}" not in EXCEPTIONS:
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= LONGEST_FUNCTION, f"{node.name} has {lines} lines"


def test_no_file_is_a_drawer_for_everything() -> None:
    drawers = {"utils.py", "helpers.py", "common.py", "misc.py"}
    assert [str(p.relative_to(ROOT)) for p in OWN if p.name in drawers] == []


@pytest.mark.parametrize("path", [p for p in OWN if "tests" not in p.parts], ids=lambda p: str(p.relative_to(ROOT)))
def test_every_module_says_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not text.strip() or ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("script", sorted((ROOT / "mlxplatform/static/js").glob("*.js")), ids=lambda p: p.name)
def test_browser_modules_are_short(script: Path) -> None:
    assert script.read_text(encoding="utf-8").count("\n") <= LONGEST_FILE
