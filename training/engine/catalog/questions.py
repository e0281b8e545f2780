"""Questions the engine answers at once, without a job: which command, with which configuration."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from training.engine.config.imports import (
    ExportPeftConfig,
    FitConfig,
    MachineConfig,
    MemoryConfig,
    TokensConfig,
    ValidateConfig,
)


@dataclass(frozen=True, slots=True)
class Question:
    """One kind of question."""

    command: str
    config: type[BaseModel]
    label: str
    implementation: str
    """Dotted path of ``run(config, say)``, loaded by the engine only."""


QUESTIONS = {
    question.command: question
    for question in (
        Question(
            "validate-data", ValidateConfig, "Check every row of a data file", "training.engine.data.validate:run"
        ),
        Question("tokens", TokensConfig, "Show what of a data set is trained", "training.engine.data.token_view:run"),
        Question(
            "export-peft", ExportPeftConfig, "Write an adapter in PEFT's form", "training.engine.tuning.peft:export"
        ),
        Question(
            "memory", MemoryConfig, "Plan the memory of a training", "training.engine.commands.memory_question:run"
        ),
        Question("fit", FitConfig, "Find the first training that fits", "training.engine.commands.fitting:run"),
        Question(
            "machine", MachineConfig, "Say what this machine computes on", "training.engine.commands.fitting:machine"
        ),
    )
}
