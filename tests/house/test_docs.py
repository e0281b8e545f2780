"""Documents move with the code: what exists is described, and what is described exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from mlxplatform.core.env import Env
from training.engine.catalog.adapters import ADAPTERS
from training.engine.catalog.formats import FORMATS
from training.engine.catalog.methods import METHODS
from training.engine.catalog.optimizers import OPTIMIZERS
from training.engine.catalog.rules import RULES
from training.engine.catalog.schedules import SCHEDULES
from training.engine.config.training import TrainConfig, load
from training.engine.errors import Exit
from training.engine.run.journal import EVENTS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
ROWS = [row.name for catalog in (METHODS, ADAPTERS, OPTIMIZERS, SCHEDULES, RULES) for row in catalog]


@pytest.mark.parametrize("name", ROWS)
def test_every_catalog_row_has_a_section(name: str) -> None:
    assert re.search(rf"^### {name}$", (DOCS / "methods.md").read_text(), re.M)


@pytest.mark.parametrize("name", [f"MLXP_{field.upper()}" for field in Env.model_fields])
def test_every_environment_variable_is_documented(name: str) -> None:
    assert name in (DOCS / "operations.md").read_text()


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_every_event_of_the_journal_is_documented(name: str) -> None:
    assert f"| `{name}` |" in (DOCS / "journal.md").read_text()


@pytest.mark.parametrize("code", list(Exit), ids=lambda c: c.name)
def test_every_exit_code_is_documented(code: Exit) -> None:
    assert f"| {int(code)} | {code.name.lower()} |" in (DOCS / "journal.md").read_text()


@pytest.mark.parametrize("name", FORMATS.names)
def test_every_data_format_is_documented(name: str) -> None:
    assert f"`{name}`" in (DOCS / "formats.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / link).exists(), f"{link} does not exist"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_make_targets_named_in_documents_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"`make ([a-z][a-z-]*)", page.read_text())) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_named_in_documents_exist(page: Path) -> None:
    commands = {p.stem for p in ROOT.glob("*/management/commands/*.py")} | {"migrate", "createsuperuser", "shell"}
    assert set(re.findall(r"manage\.py ([a-z_]+)", page.read_text())) <= commands


@pytest.mark.parametrize("row", METHODS, ids=lambda row: row.name)
def test_every_method_has_a_sample_configuration_that_is_right(row: Any) -> None:
    path = DOCS / "examples" / f"{row.name}.json"
    config = load(TrainConfig, path)
    assert config.method.name == row.name
    assert set(config.others) == set(config.method.needs)
    assert f"[{path.name}]({path.name})" in (DOCS / "examples" / "README.md").read_text()
