"""Documents move with the code: what exists is described, and what is described exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from mlxplatform.core.env import Env
from mlxplatform.core.lifecycle import Lifecycle
from pipelines import checking, files
from pipelines.catalog import STEP_KINDS, TEMPLATES
from pipelines.definition import Definition, Input, Step
from pipelines.states import RUN_LIFE, STEP_LIFE
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


@pytest.mark.parametrize("name", [*STEP_KINDS.names, *TEMPLATES.names])
def test_every_step_kind_and_template_is_documented(name: str) -> None:
    assert f"| `{name}` |" in (DOCS / "pipelines.md").read_text()


@pytest.mark.parametrize(
    ("table", "model"), [("pipeline", Definition), ("input", Input), ("step", Step)], ids=["pipeline", "input", "step"]
)
def test_every_key_of_a_definition_is_documented(table: str, model: type[BaseModel]) -> None:
    words = {"pipeline": "the pipeline", "input": "an input", "step": "a step"}[table]
    text = (DOCS / "pipelines.md").read_text().split(f"| key of {words} | meaning |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", text, re.M) == [
        field.alias or name for name, field in model.model_fields.items()
    ]


@pytest.mark.parametrize(("table", "life"), [("run", RUN_LIFE), ("step", STEP_LIFE)], ids=["run", "step"])
def test_every_move_of_runs_and_steps_is_documented(table: str, life: Lifecycle) -> None:
    text = (DOCS / "pipelines.md").read_text().split(f"| {table} | from | who, when |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([\w, –]+) \|", text, re.M)
    told = {(frm, to) for to, sources in rows for frm in sources.split(", ") if frm != "–"}
    assert told == {(str(frm), str(to)) for frm, targets in life.moves.items() for to in targets}


def test_the_sample_definition_is_right() -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```", (DOCS / "pipelines.md").read_text(), re.DOTALL | re.M)
    _, problems = checking.read(files.load(text))
    assert problems == []


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
