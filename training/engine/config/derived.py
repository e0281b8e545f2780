"""What can be asked of the commands that make something out of a model: a smaller model, a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from training.engine.errors import ConfigError
from training.engine.folders.places import Place

Layer = Annotated[int, Field(ge=0, lt=1000)]
Layers = Literal["every_other"] | Annotated[int, Field(ge=1, lt=1000)] | Annotated[list[Layer], Field(max_length=1000)]


class _Base(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_version: Literal[1] = Field(1, alias="schema")


class MakeStudentConfig(_Base):
    """``config.json`` of ``python -m training.engine make-student``."""

    model: Place = Field(description="The model whose layers are taken.")
    layers: Layers = Field(
        "every_other",
        description="'every_other' keeps layers 0, 2, 4, …; a number keeps so many, the first and the last among them, "
        "evenly spaced; a list keeps these, counted from 0.",
    )
    name: str = Field("", max_length=120)
    target: Path = Field(description="Folder to make; it appears when it is complete.")


class Draw(BaseModel):
    """How answers are drawn; the names of Hugging Face's ``generate``."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    max_tokens: int = Field(256, ge=1, le=1 << 16, description="Longest answer.")
    samples: int = Field(1, ge=1, le=64, description="Answers to each prompt; each becomes a row.")
    temperature: float = Field(1.0, ge=0, le=10, description="0: always the likeliest token, so one answer is enough.")
    top_k: int = Field(0, ge=0, le=1 << 20, description="Draws from so many likeliest tokens; 0: all.")
    top_p: float = Field(1.0, gt=0, le=1, description="Draws from the likeliest tokens that hold this probability.")
    seed: int = Field(42, ge=0, lt=1 << 32, description="The same seed draws the same answers.")
    rows: int = Field(0, ge=0, description="Most rows of each split that are answered; 0: all.")
    keep_cut: bool = Field(False, description="Keep answers that were cut at the longest length.")


class GenerateDatasetConfig(_Base):
    """``config.json`` of ``python -m training.engine generate-dataset``."""

    model: Place = Field(description="The model that answers.")
    data: Path = Field(description="Folder of a data set version: prompts, chats, pairs; only the questions are used.")
    draw: Draw = Field(default_factory=Draw)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    target: Path = Field(description="The data sets folder; the version's folder in it is named by its hash.")


def kept(layers: Layers, count: int) -> list[int]:
    """Which of ``count`` layers stay, in their order. Raises ConfigError ``student.layers``."""
    if layers == "every_other":
        found = list(range(0, count, 2))
    elif isinstance(layers, int):
        # The first layer reads embeddings and the last one writes for the head: both stay.
        found = [round(i * (count - 1) / max(1, layers - 1)) for i in range(layers)] if layers <= count else []
    else:
        found = sorted(set(layers))
    if found and found[-1] < count and len(found) < count and (not isinstance(layers, list) or found == layers):
        return found
    asked = f"{layers} layers" if isinstance(layers, int) else f"the layers {str(layers)[:80]}"
    raise ConfigError(
        "student.layers",
        f"The model has {count} layers, and a smaller one cannot be made of {asked}.",
        f"Name fewer than {count}, each once, in rising order from 0 to {count - 1}.",
    )
