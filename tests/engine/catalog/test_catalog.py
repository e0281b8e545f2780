"""A walk through the catalogs: every row, also the one of tomorrow, has words, trains and goes on."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.engine import method_data, runs
from training.engine.catalog.adapters import ADAPTERS
from training.engine.catalog.kinds import KINDS
from training.engine.catalog.methods import METHODS
from training.engine.catalog.optimizers import OPTIMIZERS
from training.engine.catalog.questions import QUESTIONS
from training.engine.catalog.rows import Catalog, Row
from training.engine.catalog.schedules import SCHEDULES
from training.engine.config.training import TrainSettings
from training.engine.errors import Exit

CATALOGS = {"method": METHODS, "optimizer": OPTIMIZERS, "lr_schedule": SCHEDULES, "adapter": ADAPTERS}
ROWS = [pytest.param(key, row, id=f"{key}-{row.name}") for key, catalog in CATALOGS.items() for row in catalog]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.data(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize(("key", "row"), ROWS)
def test_every_row_has_words(key: str, row: Row) -> None:
    assert row.name == row.settings(name=row.name).name
    assert row.label
    assert len(row.summary) > 20
    assert callable(row.load())
    for name, field in row.settings.model_fields.items():
        assert name == "name" or (field.title and field.description and field.description.endswith(".")), name


@pytest.mark.parametrize(("key", "row"), ROWS)
def test_every_row_trains_and_goes_on(key: str, row: Row, tiny_llama: Path, data: Path, tmp_path: Path) -> None:
    more = {}
    if key == "method":
        data = method_data.data(tmp_path / "data", row.name)
        more["others"] = method_data.others(row.name, tmp_path / "others")
    short = {"max_completion_length": 9}  # of methods whose model answers; all else by default
    chosen = {"name": row.name, **{k: v for k, v in short.items() if k in row.settings.model_fields}}
    config = runs.request(tiny_llama, data, iters=3, learning_rate=1e-3, **{key: chosen}, **more)
    assert runs.run(tmp_path / "a", config) == Exit.FINISHED
    assert runs.run(tmp_path / "b", config, halt=(2, 0)) == Exit.STOPPED
    assert runs.run(tmp_path / "b", config) == Exit.FINISHED
    runs.assert_same(tmp_path / "a", tmp_path / "b", 3)
    assert all(math.isfinite(loss) for loss in runs.points(tmp_path / "a").values())


@pytest.mark.parametrize("key", CATALOGS)
def test_the_configuration_takes_every_row_by_its_name(key: str) -> None:
    for name in CATALOGS[key].names:
        assert getattr(TrainSettings.model_validate({key: name}), key).name == name


def test_names_are_unique() -> None:
    row = next(iter(METHODS))
    with pytest.raises(ValueError, match="same name"):
        Catalog("method", row, row)


def test_every_command_can_be_loaded() -> None:
    from training.engine.cli import _load

    for thing in (*KINDS.values(), *QUESTIONS.values()):
        assert callable(_load(thing.implementation))
        assert thing.label
