"""Kinds of jobs: which command of the engine does one, with which configuration, on what resource."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from training.engine.config.derived import GenerateDatasetConfig, MakeStudentConfig
from training.engine.config.evaluations import EvaluateConfig
from training.engine.config.imports import ImportDatasetConfig, ImportModelConfig
from training.engine.config.training import TrainConfig


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of job."""

    name: str
    command: str
    config: type[BaseModel]
    resource: str
    label: str
    resumable: bool
    """Whether a new attempt goes on from a checkpoint; otherwise it starts over."""
    implementation: str
    """Dotted path of ``run(config, run)``, loaded by the engine only."""


KINDS = {
    kind.name: kind
    for kind in (
        Kind("train", "train", TrainConfig, "device", "Training", True, "training.engine.commands.train:run"),
        Kind(
            "import_model",
            "import-model",
            ImportModelConfig,
            "cpu",
            "Model import",
            False,
            "training.engine.commands.import_model:run",
        ),
        Kind(
            "import_dataset",
            "import-dataset",
            ImportDatasetConfig,
            "cpu",
            "Data import",
            False,
            "training.engine.commands.import_dataset:run",
        ),
        Kind(
            "evaluate",
            "evaluate",
            EvaluateConfig,
            "device",
            "Evaluation",
            True,
            "training.engine.commands.evaluate:run",
        ),
        Kind(
            "make_student",
            "make-student",
            MakeStudentConfig,
            "cpu",
            "Smaller model",
            False,
            "training.engine.commands.make_student:run",
        ),
        Kind(
            "generate_dataset",
            "generate-dataset",
            GenerateDatasetConfig,
            "device",
            "Generated data",
            True,
            "training.engine.commands.generate_dataset:run",
        ),
    )
}
