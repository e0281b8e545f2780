"""What can be asked of the command ``evaluate``: how good a model's losses and answers are on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from training.engine.catalog.rows import code_of_its_own, setting
from training.engine.catalog.rules import MAX_RULES, Rule
from training.engine.folders.places import Place

Rules = Annotated[list[Rule], Field(max_length=MAX_RULES)]


class EvaluateSettings(BaseModel):
    """Everything a person may choose about an evaluation, apart from models and data."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    split: Literal["train", "valid", "test"] = setting("valid", "Rows", "Which part of the data set.", level="simple")
    loss: bool = setting(
        True,
        "Loss and perplexity",
        "How surprising the answers in the data are to the model, counted as in training.",
        level="simple",
    )
    rules: Rules = setting(
        [],
        "Rules",
        "What scores the model's own answers, one rule in a line, such as exact_answer or regex pattern='^yes'. Their "
        "names and settings stand in the catalog.",
        level="simple",
        examples=["regex pattern='^yes' ignore_case=on"],
    )
    rows: int = setting(
        64,
        "Answered rows",
        "The model answers the prompts of so many rows, evenly taken from all; 0: none.",
        level="simple",
        ge=0,
        le=100_000,
        unit="rows",
    )
    max_tokens: int = setting(
        256, "Longest answer", "An answer is cut here.", level="simple", ge=1, le=1 << 16, unit="tokens"
    )
    temperature: float = setting(
        0.0, "Temperature", "0: always the likeliest token. Above, tokens are drawn.", level="adjust", ge=0, le=10
    )
    top_p: float = setting(
        1.0, "Top p", "Draws from the likeliest tokens that hold this probability.", level="adjust", gt=0, le=1
    )
    top_k: int = setting(0, "Top k", "Draws from so many likeliest tokens; 0: all.", level="adjust", ge=0, le=1 << 20)
    train_on: Literal["assistant", "last", "all"] = setting(
        "assistant", "Loss on", "Which tokens the loss counts; as in supervised fine-tuning.", level="adjust"
    )
    batch_size: int = setting(8, "Rows at once", "Less needs less memory.", level="adjust", ge=1, le=1024, unit="rows")
    max_seq_length: int = setting(
        1024, "Sequence length", "Longer rows are cut here.", level="adjust", ge=8, le=1 << 20, unit="tokens"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto", "Precision", "Number format of the computation; auto takes float32 on CPU and the model's own on a GPU."
    )
    seed: int = setting(42, "Seed", "Of the drawn tokens and of the win rate's interval.", ge=0, lt=1 << 32)

    @field_validator("rows")
    @classmethod
    def _answers_for_rules(cls, value: int, info: Any) -> int:
        if value == 0 and info.data.get("rules"):
            raise code_of_its_own(
                "evaluation.no_answers", "Rules score answers, and no row is to be answered.", "Answer at least one."
            )
        if value == 0 and info.data.get("loss") is False:
            raise code_of_its_own(
                "evaluation.nothing", "There is nothing to measure.", "Switch the loss on, or let rows be answered."
            )
        return value


class EvaluateConfig(EvaluateSettings):
    """``config.json`` of ``python -m training.engine evaluate``."""

    schema_version: Literal[1] = Field(1, alias="schema")
    model: Place = Field(description="The model that is looked at.")
    reward_model: Place | None = Field(None, description="Scores the answers.")
    baseline: Place | None = Field(None, description="A model whose answers are compared by the reward model.")
    data: Path = Field(description="Folder with train.jsonl and, where there are any, valid.jsonl and test.jsonl.")
    kernel_cache: Path | None = Field(None, description="Folder for compiled kernels.")

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)

    @field_validator("baseline")
    @classmethod
    def _compared_by(cls, value: Place | None, info: Any) -> Place | None:
        if value is not None and info.data.get("reward_model") is None:
            raise code_of_its_own(
                "evaluation.baseline_alone",
                "Two models are compared by a reward model, and none is given.",
                "Give a reward model, or leave the baseline out.",
            )
        return value
