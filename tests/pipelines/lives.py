"""Runs with real rows, and their jobs led through their lives by hand, as the worker would."""

from __future__ import annotations

import json
import uuid
from typing import Any

from django.db.models import Max
from django.utils import timezone

from mlxplatform.core.lifecycle import move
from pipelines import services
from pipelines.definition import Definition
from pipelines.models import Pipeline, PipelineRun, StepRun
from registry.models import ModelVersion, RegisteredModel
from training.landing import land
from training.models import Dataset, DatasetVersion, Job
from training.states import JobState

SFT: dict[str, Any] = {
    "name": "sft",
    "kind": "train",
    "uses": {"model": "inputs.model", "data": "inputs.data"},
    "settings": {"iters": 4},
}
INPUTS: dict[str, Any] = {"model": {"type": "model"}, "data": {"type": "dataset"}}


def step(name: str, kind: str = "train", *, after: list[str] | None = None, **changes: Any) -> dict[str, Any]:
    """A step; a training uses the inputs unless told otherwise."""
    base = SFT if kind == "train" else {"settings": {"condition": "1 < 2"}} if kind == "gate" else {}
    return {**base, "name": name, "kind": kind, "after": after or [], **changes}


#: What a training uses: the run's own model and data, or what the step "sft" made.
USED = {"model": "inputs.model", "data": "inputs.data"}
AFTER = {**USED, "model": "sft.model"}
TWO = (step("sft"), step("dpo", uses=AFTER))


def fresh(run: PipelineRun) -> PipelineRun:
    return PipelineRun.objects.get(pk=run.pk)


def gate(name: str, condition: str, **changes: Any) -> dict[str, Any]:
    return step(name, "gate", settings={"condition": condition}, **changes)


def model(name: str = "base", **columns: Any) -> ModelVersion:
    """A whole model whose files are known."""
    registered, _ = RegisteredModel.objects.get_or_create(name=name)
    n = (registered.versions.aggregate(top=Max("n"))["top"] or 0) + 1
    unique = uuid.uuid4().hex
    given = {"kind": "base", "path": f"models/{unique}", "model_type": "llama", "files": {"model.safetensors": unique}}
    made = ModelVersion.objects.create(model=registered, n=n, **{**given, **columns})
    made.folder.mkdir(parents=True, exist_ok=True)
    return made


def data(name: str = "rows", **columns: Any) -> DatasetVersion:
    dataset, _ = Dataset.objects.get_or_create(name=name)
    n = (dataset.versions.aggregate(top=Max("n"))["top"] or 0) + 1
    given = {"sha256": uuid.uuid4().hex, "data_format": "chat", "rows_train": 10, "rows_valid": 5}
    made = DatasetVersion.objects.create(dataset=dataset, n=n, **{**given, **columns})
    made.folder.mkdir(parents=True, exist_ok=True)
    return made


def pipeline(user: Any, *steps: dict[str, Any], inputs: dict[str, Any] | None = None, name: str = "P") -> Pipeline:
    """A pipeline of these steps; it must hold together."""
    raw = {"name": name, "inputs": INPUTS if inputs is None else inputs, "steps": list(steps)}
    made: Definition = services.checked(raw)
    return services.create(user, made)


def started(user: Any, made: Pipeline, **chosen: Any) -> PipelineRun:
    """A run of it with a model and data of its own unless they are given, its first steps begun."""
    for name, given in made.newest.definition.inputs.items():
        if name not in chosen and given.type != "number":
            chosen[name] = data() if given.type == "dataset" else model()
    plain = {name: value if isinstance(value, int | float) else str(value.pk) for name, value in chosen.items()}
    return go(services.start(user, made, plain))


def go(run: PipelineRun) -> PipelineRun:
    """Do what is next, and the row as it stands then."""
    services.advance(run.pk)
    return PipelineRun.objects.get(pk=run.pk)


def at(run: PipelineRun, name: str) -> StepRun:
    return StepRun.objects.select_related("job", "run").get(run=run, name=name)


def states(run: PipelineRun) -> dict[str, str]:
    return dict(run.steps.values_list("name", "state"))


def job(run: PipelineRun, name: str) -> Job:
    """The job of a step; there must be one."""
    found = at(run, name).job
    assert found is not None, f"{name} is {at(run, name).state}: {at(run, name).message}"
    return found


def runs(one: Job) -> Job:
    """Its engine has said that it has started."""
    one.refresh_from_db()
    if one.state == JobState.QUEUED:
        move(one, JobState.STARTING, started_at=timezone.now())
    if one.state == JobState.STARTING:
        move(one, JobState.RUNNING)
    return one


def succeeds(one: Job, **figures: float) -> Job:
    """It ends well; a training leaves a version with these figures."""
    runs(one)
    result: dict[str, Any] = {"values": figures}
    if one.kind == Job.Kind.TRAIN:
        folder = one.run_dir.root / "checkpoints/0000004"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "adapter_config.json").write_text("{}")
        (folder / "adapters.safetensors").write_bytes(_weights(one))
        result = {"checkpoint": "checkpoints/0000004", "step": 4, **figures}
    move(one, JobState.SUCCEEDED, result={**result, **land(one, result)}, progress=1.0, ended_at=timezone.now())
    return one


def _weights(one: Job) -> bytes:
    name = "score.weight" if one.settings["method"]["name"] == "reward_model" else "lora_a"
    header = json.dumps({name: {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4)


def fails(one: Job, message: str = "It diverged.", hint: str = "Lower the rate.") -> Job:
    move(runs(one), JobState.FAILED, reason="diverged.loss", message=message, hint=hint, ended_at=timezone.now())
    return one


def saves(one: Job) -> Job:
    """It was asked to end and does so with a checkpoint: paused if that was asked for, else stopped."""
    one.refresh_from_db()
    assert one.stop_wanted, "nobody asked"
    move(one, JobState.STOPPING)
    move(one, JobState.PAUSED if one.pause_requested_at else JobState.STOPPED, ended_at=timezone.now())
    return one
