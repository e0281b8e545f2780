"""Parameter groups: weights picked by a pattern that have a rate, a weight decay of their own, or stay as they are.

A group is written as an object or as one line of text: ``model.layers.*.mlp.* lr=0.1 weight_decay=0``. Of
several groups that match a weight, the first one decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

#: A weight's full name; * stands for any part of it, dots too, ? for one character, [0-9] for one of several.
Pattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.*?\[\]!-]{1,200}$")]
_SHORT = {"lr": "lr_ratio"}


def _as_line_too(schema: dict[str, Any]) -> None:
    """The schema of what is accepted: a line of text, or the object."""
    whole = dict(schema)
    schema.clear()
    schema["title"] = whole["title"]
    schema["anyOf"] = [{"type": "string", "examples": ["*.lora_b lr=4"]}, whole]


class ParameterGroup(BaseModel):
    """Some weights and what is special about them. Written down as a line of text."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, json_schema_extra=_as_line_too)

    pattern: Pattern = Field(description="Full names, such as model.layers.*.mlp.*; * stands for anything.")
    lr_ratio: float = Field(1.0, gt=0, le=1e4, description="Times the training's learning rate; lr in a line.")
    weight_decay: float | None = Field(None, ge=0, le=1, description="In place of the optimizer's.")
    freeze: bool = Field(False, description="These weights stay as they are.")

    @model_validator(mode="before")
    @classmethod
    def _from_line(cls, data: Any) -> Any:
        return parsed(data) if isinstance(data, str) else data

    @model_validator(mode="after")
    def _says_something(self) -> ParameterGroup:
        if self.freeze and (self.lr_ratio != 1.0 or self.weight_decay is not None):
            raise ValueError(f"'{self.pattern}' is frozen, so it has neither a rate nor a weight decay")
        if not self.freeze and self.lr_ratio == 1.0 and self.weight_decay is None:
            raise ValueError(f"'{self.pattern}' needs lr, weight_decay or freeze")
        return self

    @model_serializer
    def line(self) -> str:
        """The group as a line of text."""
        words = [self.pattern]
        if self.lr_ratio != 1.0:
            words.append(f"lr={self.lr_ratio:.10g}")
        if self.weight_decay is not None:
            words.append(f"weight_decay={self.weight_decay:.10g}")
        return " ".join([*words, *["freeze"] * self.freeze])

    def matches(self, name: str) -> bool:
        """Whether the weight called ``name`` belongs to it."""
        return fnmatchcase(name, self.pattern)


def parsed(line: str) -> dict[str, Any]:
    """The object that ``line`` writes down. Raises ValueError naming every word that it does not know."""
    pattern, *words = line.split() or [""]
    group: dict[str, Any] = {"pattern": pattern}
    wrong = []
    for word in words:
        key, equals, value = word.partition("=")
        key = _SHORT.get(key, key)
        if key not in ParameterGroup.model_fields or key == "pattern" or bool(equals) == (key == "freeze"):
            wrong.append(f"'{word}' is none of lr=…, weight_decay=…, freeze")
        elif key in group:
            wrong.append(f"{key} stands there twice")
        else:
            group[key] = value if equals else True
    if wrong:
        raise ValueError("; ".join(wrong))
    return group


def kinds_of(names: Iterable[str], most: int = 24) -> str:
    """Names as one pattern for each kind of weight, for a person to choose from."""
    kinds = list(dict.fromkeys(re.sub(r"\.\d+\.", ".*.", name) for name in names))
    return ", ".join(kinds[:most]) + (f" and {len(kinds) - most} more" if len(kinds) > most else "")
