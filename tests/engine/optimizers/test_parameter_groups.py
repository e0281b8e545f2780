"""Parameter groups as lines and as objects; every slip is named."""

from __future__ import annotations

from typing import Any

import pytest

from training.engine.catalog.parameter_groups import ParameterGroup, kinds_of
from training.engine.config.training import TrainSettings, check
from training.engine.errors import ConfigError


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("*.lora_b lr=4", {"lr_ratio": 4}),
        ("  model.layers.0.*   weight_decay=0   lr_ratio=0.5 ", {"lr_ratio": 0.5, "weight_decay": 0}),
        ("model.embed_tokens.* freeze", {"freeze": True}),
        ("*.layers.[0-3].* lr=1e-05", {"lr_ratio": 1e-5}),
    ],
)
def test_a_line_is_an_object(line: str, fields: dict[str, Any]) -> None:
    (made,) = check(TrainSettings, {"parameter_groups": [line]}).parameter_groups
    assert made == ParameterGroup(pattern=line.split(maxsplit=1)[0], **fields)


def test_settings_keep_the_line() -> None:
    settings = TrainSettings(parameter_groups=[{"pattern": "*.lora_b", "lr_ratio": 4.0, "weight_decay": 0.1}])  # type: ignore[list-item]
    kept = settings.model_dump(mode="json")
    assert kept["parameter_groups"] == ["*.lora_b lr=4 weight_decay=0.1"]
    assert check(TrainSettings, kept) == settings


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ("", "pattern"),
        ("*.lora_b", "needs lr, weight_decay or freeze"),
        ("*.lora_b rate=4", "'rate=4' is none of"),
        ("*.lora_b lr", "'lr' is none of"),
        ("*.lora_b freeze=yes", "'freeze=yes' is none of"),
        ("*.lora_b lr=2 lr=3", "stands there twice"),
        ("*.lora_b lr=0", "greater than 0"),
        ("*.lora_b lr=fast", "number"),
        ("*.lora_b weight_decay=2", "less than or equal to 1"),
        ("*.lora_b freeze lr=2", "neither a rate"),
        ("a|b lr=2", "pattern"),
        ({"pattern": "*", "learning_rate": 2}, "There is no such setting"),
        (7, "dictionary"),
    ],
)
def test_slips_are_named(group: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(TrainSettings, {"parameter_groups": ["*.fine lr=2", group]})
    assert all(p.loc[:2] == ("parameter_groups", 1) for p in caught.value.problems)
    assert any(words in p.message for p in caught.value.problems), caught.value.problems


def test_several_slips_in_a_line_are_told_together() -> None:
    with pytest.raises(ConfigError, match=r"'a=1' is none of .*'b' is none of"):
        check(TrainSettings, {"parameter_groups": ["* a=1 b"]})


def test_the_schema_offers_both_ways() -> None:
    schema = TrainSettings.model_json_schema()["$defs"]["ParameterGroup"]["anyOf"]
    assert [part["type"] for part in schema] == ["string", "object"]


def test_names_are_told_by_kind() -> None:
    assert kinds_of(["model.layers.0.a", "model.layers.1.a", "b"]) == "model.layers.*.a, b"
    assert kinds_of("abc", most=2) == "a, b and 1 more"
