"""Every problem of a request at once, each with its code, place, sentence and advice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from training.engine.catalog.kinds import KINDS
from training.engine.config.training import TrainConfig, TrainSettings, check, load
from training.engine.errors import ConfigError


def found(kind: Any = TrainSettings, /, **raw: Any) -> dict[str, str]:
    """Place → code of every problem."""
    with pytest.raises(ConfigError) as refused:
        check(kind, raw)
    assert all(p.message and p.hint for p in refused.value.problems)
    return {".".join(map(str, p.loc)): p.code for p in refused.value.problems}


def test_all_problems_at_once() -> None:
    assert found(
        optimizer={"name": "adamw", "betas": [0.9, 1.5]},
        adapter={"rank": 0, "num_layers": 0, "alpha": 8, "scale": 3.0},
        lr_schedule="zigzag",
        epochs=1,
        iters=5,
        lerning_rate=1,
        batch_size="many",
    ) == {
        "optimizer.betas.1": "config.less_than",
        "adapter.rank": "config.greater_than_equal",
        "adapter.num_layers": "config.value_error",
        "lr_schedule": "lr_schedule.unknown",
        "iters": "config.value_error",
        "lerning_rate": "config.unknown",
        "batch_size": "config.int_parsing",
    }


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError) as refused:
        check(TrainSettings, {"optimizer": "adamm", "method": {"name": "sftt"}})
    problems = {p.code: p for p in refused.value.problems}
    assert problems["optimizer.unknown"].message == "There is no optimizer 'adamm'."
    assert "adamw, adamw_8bit, adam, " in problems["optimizer.unknown"].hint
    assert problems["method.unknown"].message == "There is no method 'sftt'."


@pytest.mark.parametrize(
    ("adapter", "scale"),
    [({"alpha": 32}, 2.0), ({"rank": 8, "alpha": 8}, 1.0), ({"rank": 8, "alpha": 8, "scale": 1.0}, 1.0), ({}, 2.0)],
)
def test_alpha_is_another_word_for_scale(adapter: dict, scale: float) -> None:
    assert check(TrainSettings, {"adapter": adapter}).adapter.scale == scale  # type: ignore[attr-defined]


@pytest.mark.parametrize("alpha", [0, -1, "x", None, float("nan"), float("inf"), [1]])
def test_an_impossible_alpha_is_a_problem_of_the_scale(alpha: Any) -> None:
    assert found(adapter={"alpha": alpha}) == {"adapter.scale": "config.value_error"}


def test_alpha_and_scale_must_agree() -> None:
    with pytest.raises(ConfigError, match=r"scale 3 and alpha 8 disagree: scale is alpha / rank = 0\.5"):
        check(TrainSettings, {"adapter": {"rank": 16, "alpha": 8, "scale": 3}})


def test_nesterov_needs_momentum() -> None:
    assert found(optimizer={"name": "sgd", "momentum": 0, "nesterov": True}) == {
        "optimizer.nesterov": "config.value_error"
    }


@pytest.mark.parametrize("raw", [[], "x", 5, None])
def test_what_is_no_object_is_refused(raw: Any) -> None:
    with pytest.raises(ConfigError):
        check(TrainSettings, raw)


@pytest.mark.parametrize("value", [5, [], {"name": 5}, {"name": ["adamw"]}, None])
def test_a_strange_optimizer_is_refused(value: Any) -> None:
    assert all(place.startswith("optimizer") for place in found(optimizer=value))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0, -1, 2])
def test_a_strange_learning_rate_is_refused(value: float) -> None:
    assert "learning_rate" in found(learning_rate=value)


def test_the_file_needs_model_and_data() -> None:
    assert found(TrainConfig, schema=1) == {"model": "config.missing", "data": "config.missing"}
    assert found(TrainConfig, schema=2, model="m", data="d") == {"schema": "config.literal_error"}


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"{", "config.not_json"),
        (b"\xff", "config.not_json"),
        (b"[" * 10**5, "config.not_json"),
        (b" " * (1 << 20) + b"{}", "config.too_large"),
        (b"{}", "config.missing"),
    ],
)
def test_a_broken_file(raw: bytes, code: str, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(raw)
    with pytest.raises(ConfigError) as refused:
        load(TrainConfig, path)
    assert refused.value.code == code


def test_no_file_and_no_file_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no file"):
        load(TrainConfig, tmp_path / "c.json")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(TrainConfig, tmp_path)


def test_what_is_written_out_is_read_back_the_same() -> None:
    raw = {"model": "m", "data": "d", "adapter": {"name": "dora", "alpha": 8}, "optimizer": "lion", "iters": 3}
    config = check(TrainConfig, raw)
    assert check(TrainConfig, json.loads(config.model_dump_json(by_alias=True))) == config


def test_the_form_has_words_for_every_setting() -> None:
    for name, field in TrainSettings.model_fields.items():
        assert field.title, name
    assert KINDS["train"].config is TrainConfig
