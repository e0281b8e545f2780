"""What is known of a model version, a data set version and this machine, for proposals. The engine counts and tells."""

from __future__ import annotations

import json
from typing import Any

from mlxplatform.core.errors import DomainError
from registry.models import ModelVersion
from training import asks
from training.autoconfig import DataFacts, MachineFacts, ModelFacts
from training.models import DatasetVersion

FRESH = 600.0  # seconds: what is free changes, and the memory plan looks again anyway


def of_model(version: ModelVersion) -> ModelFacts:
    """From the version's row and the whole model's config.json; what is not said there is 0."""
    whole = version.whole
    try:
        about = json.loads((whole.folder / "config.json").read_text(encoding="utf-8"))
        text = about.get("text_config") or about
    except (OSError, ValueError, AttributeError):
        text = {}
    return ModelFacts(
        parameters=whole.parameters,
        layers=_count(text, "num_hidden_layers"),
        context=version.context_length or whole.context_length,
        quantized=bool(whole.quantization),
        vocabulary=_count(text, "vocab_size"),
    )


def _count(about: Any, key: str) -> int:
    value = about.get(key)
    return value if isinstance(value, int) and value > 0 else 0


def of_data(data: DatasetVersion, model: ModelVersion) -> tuple[DataFacts, str]:
    """Counts with ``model``'s tokenizer (kept, since a version never changes), and why there are none, or ""."""
    found = data.report.get("answers")
    answers: dict[str, Any] = found if isinstance(found, dict) else {}
    try:
        counted = asks.tokens(data, model, statistics=True)["statistics"]
        why = ""
    except DomainError as error:
        counted, why = {}, f"The rows' lengths could not be counted: {error.message}"
    facts = DataFacts(
        data_format=data.data_format,
        rows=data.rows_train,
        valid_rows=data.rows_valid,
        tokens=counted.get("tokens", 0),
        histogram=tuple((edge, count) for edge, count in counted.get("histogram", ())),
        longest=counted.get("longest", 0),
        good_share=answers.get("good_share"),
        has_answers=0 < answers.get("prompts", 0) == answers.get("answered", 0),
    )
    return facts, why


def of_machine() -> MachineFacts:
    """Of the machine that the engine computes on. Raises TooMuch, AskFailed."""
    told = asks.ask("machine", {}, fresh=FRESH, memory=None)
    return MachineFacts(told["backend"], told["threads"], told["limit"])
