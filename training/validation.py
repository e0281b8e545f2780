"""What may be asked for, checked against rows and files: every problem, as data, raising nothing by itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlxplatform.core.env import env
from mlxplatform.core.errors import Invalid, NotFound
from registry.models import ModelVersion
from training import uploads
from training.engine.catalog.formats import FORMATS
from training.engine.catalog.methods import METHODS
from training.engine.config import hostfile
from training.engine.config.training import TrainSettings, check
from training.engine.errors import ConfigError, Problem
from training.engine.folders import vocabularies
from training.models import DatasetVersion, Job

PRIORITIES = range(-100, 101)
MOST_TOKENIZER = 64 << 20  # bytes that the web process reads to compare; a larger one is compared by the engine


def name_problems(name: str, *, needed: bool = True) -> list[Problem]:
    """A name has 1 to 120 characters; none at all is fine where one can be made up."""
    if len(name.strip()) > 120:
        return [Problem(("name",), "name.too_long", "The name has more than 120 characters.", "Shorten it.")]
    if needed and not name.strip():
        return [Problem(("name",), "name.missing", "The name is empty.", "Give a name.")]
    return []


def priority_problems(priority: int) -> list[Problem]:
    """A priority is a number from -100 to 100."""
    if priority in PRIORITIES:
        return []
    return [Problem(("priority",), "priority.range", f"There is no priority {priority}.", "Use -100 to 100.")]


def model_problems(model: ModelVersion | None, settings: TrainSettings | dict[str, Any]) -> list[Problem]:
    """What speaks against training ``model`` so; ``settings`` may be raw, where they have problems of their own."""
    if model is None:
        return [
            Problem(
                ("model_version_id",),
                "model.unknown",
                "There is no such model.",
                "Choose one of the list, or import one.",
            )
        ]
    if not model.is_trainable:
        return [
            Problem(
                ("model_version_id",),
                "model.not_trainable",
                f"{model} is an adapter whose base model is not known.",
                "Choose a base model, or import the adapter again with its base.",
            )
        ]
    found = []
    adapter, length = _adapter_and_length(settings)
    if adapter == "full" and model.whole.quantization:
        found.append(
            Problem(
                ("adapter",),
                "adapter.needs_unquantised",
                f"{model} is quantised, so its own weights cannot be trained.",
                "Choose LoRA or DoRA, or import the model in full precision.",
            )
        )
    if 0 < model.context_length < length:
        found.append(
            Problem(
                ("max_seq_length",),
                "config.max_seq_length",
                f"{length} tokens are more than the {model.context_length} that {model} can read.",
                f"Use at most {model.context_length}.",
            )
        )
    return found


def base_problems(version: ModelVersion | None) -> list[Problem]:
    """What speaks against importing an adapter for ``version``."""
    loc = ("base_version_id",)
    if version is None:
        return [Problem(loc, "model.unknown", "There is no such base model.", "Choose one of the list.")]
    if version.whole != version:
        return [Problem(loc, "model.not_whole", f"{version} is an adapter itself.", "Choose the base model.")]
    return []


def _adapter_and_length(settings: TrainSettings | dict[str, Any]) -> tuple[str, int]:
    if isinstance(settings, TrainSettings):
        chosen: Any = settings.adapter
        return str(chosen.name), settings.max_seq_length
    adapter, length = settings.get("adapter"), settings.get("max_seq_length")
    name = adapter.get("name") if isinstance(adapter, dict) else adapter
    return str(name), length if isinstance(length, int) else 0


def rank_problems(settings: TrainSettings) -> list[Problem]:
    """What speaks against the hosts of ``settings``: the operator's hostfile names those that may be used."""
    if not settings.hosts:
        return []
    try:
        found = hostfile.read(Path(env().hostfile)) if env().hostfile else hostfile.Hostfile()
    except ConfigError as error:
        return [Problem(("hosts",), error.code, error.message, error.hint)]
    problem = found.problem(settings.hosts)
    return [problem] if problem else []


def data_problems(data: DatasetVersion | None, settings: TrainSettings | None = None) -> list[Problem]:
    """What speaks against training on ``data``, as far as it is known with these ``settings``."""
    if data is None:
        return [
            Problem(
                ("dataset_version_id",),
                "dataset.unknown",
                "There is no such data set.",
                "Choose one of the list, or import one.",
            )
        ]
    if not data.rows_train:
        return [
            Problem(
                ("dataset_version_id",),
                "dataset.empty",
                f"{data} has no rows to train on.",
                "Import it again with a smaller validation share.",
            )
        ]
    if settings is not None and data.data_format not in settings.method.reads:
        known = ", ".join(FORMATS[name].label for name in settings.method.reads)
        label = FORMATS[data.data_format].label if data.data_format in FORMATS else data.data_format
        method = METHODS[settings.method.name].label
        return [
            Problem(
                ("dataset_version_id",),
                "dataset.unfit",
                f"{data} holds rows of the form {label}, and {method} cannot train on these.",
                f"It reads: {known}.",
            )
        ]
    return []


def question_problems(data: DatasetVersion | None) -> list[Problem]:
    """What speaks against answering the questions in ``data``."""
    if data is not None and data.data_format == "text":
        return [
            Problem(
                ("dataset_version_id",),
                "dataset.no_questions",
                f"{data} holds plain text, which asks nothing.",
                "Choose a data set of prompts, chats or pairs.",
            )
        ]
    return data_problems(data) if data is None else []


def other_problems(
    settings: TrainSettings, others: Mapping[str, ModelVersion | None], model: ModelVersion | None
) -> list[Problem]:
    """What speaks against the further models that a method was given, or lacks."""
    needs, problems = settings.method.needs, []
    for needed in needs:
        if needed not in others:
            what = needed.replace("_", " ")
            problems.append(
                Problem(
                    ("others", needed),
                    f"{needed}.missing",
                    f"{METHODS[settings.method.name].label} needs a {what}, and none was given.",
                    f"Choose a model version as {what}.",
                )
            )
    for role, version in others.items():
        if role not in needs:
            known = ", ".join(needs) or "none"
            problems.append(
                Problem(
                    ("others", role),
                    "others.unknown",
                    f"The method has no use for a '{role[:40]}'.",
                    f"It takes: {known}.",
                )
            )
        elif version is None:
            problems.append(
                Problem(("others", role), "model.unknown", "There is no such model version.", "Choose one of the list.")
            )
        elif role == "reward_model":
            problems += head_problems(version, ("others", role))
        elif role == "teacher" and model is not None:
            problems += teacher_problems(settings, version, model)
    return problems


def teacher_problems(settings: TrainSettings, teacher: ModelVersion, model: ModelVersion) -> list[Problem]:
    """A teacher knows the same tokens, and at least as many as are asked of it."""
    folder = teacher.whole.folder
    found = [
        vocabularies.problem(model.whole.folder, folder, MOST_TOKENIZER),
        vocabularies.beyond(getattr(settings.method, "top_k", 0), folder),
    ]
    return [problem for problem in found if problem is not None]


def head_problems(version: ModelVersion, loc: tuple[str, ...]) -> list[Problem]:
    """A reward model has a head that makes a score."""
    if version.is_reward_model:
        return []
    return [
        Problem(
            loc,
            "reward_model.no_head",
            f"{version} has no head that scores answers, so it is no reward model.",
            "Choose a version that the method 'Reward model' has trained.",
        )
    ]


def training_name(model: ModelVersion, data: DatasetVersion) -> str:
    """Such as "smollm2 · python docs · 3": the short model name, the data set's, and a count."""
    n = Job.objects.filter(model_version__model=model.model, dataset_version__dataset=data.dataset).count() + 1
    short = model.model.name.split("/")[-1].split("-")[0].lower()
    return f"{short[:40]} · {data.dataset.name.lower()[:60]} · {n}"


def import_source(source: Any, name: str) -> tuple[dict[str, Any], str, list[Problem]]:
    """The source with its upload or path made real, a name for what comes of it, and what is wrong."""
    problems = name_problems(name, needed=False)
    made = dict(source) if isinstance(source, dict) else {}
    if (upload := made.pop("upload", None)) is not None:
        try:
            made["path"] = str(uploads.find(upload))
        except NotFound as error:
            problems.append(Problem(("source", "upload"), error.code, error.message, error.hint))
            made["path"] = "unknown"
    elif "path" in made:
        found = uploads.server_path(made["path"])
        if isinstance(found, Problem):
            problems.append(found)
        else:
            made["path"] = str(found)
    if made.get("kind") == "hub" and env().offline:
        problems.append(
            Problem(
                ("source",),
                "hub.offline",
                "This dashboard may not ask the hub.",
                "Upload files, or unset MLXP_OFFLINE.",
            )
        )
    return made, name.strip() or _source_name(made), problems


def _source_name(source: dict[str, Any]) -> str:
    if source.get("kind") == "python_docs":
        form = str(source.get("form") or "chat")
        return "Python docs" if form == "chat" else f"Python docs, {form[:40]}"
    text = str(source.get("repo_id") or source.get("path") or "")
    last = text.rstrip("/").split("/")[-1]
    stem = last.rsplit(".", 1)[0] if source.get("kind") in {"file", "gguf"} else last
    return (stem or "import")[:100]


def checked_import(model: Any, asked: dict[str, Any], problems: list[Problem]) -> dict[str, Any]:
    """The request with defaults filled in, without the target, which the worker chooses."""
    found = list(problems)
    try:
        checked = check(model, {**{k: v for k, v in asked.items() if k != "target"}, "target": "unset"})
    except ConfigError as error:
        found += [p for p in error.problems if p.loc != ("source", "path") or not problems]
        checked = None
    if found or checked is None:
        raise Invalid.of(found)
    dumped: dict[str, Any] = checked.model_dump(mode="json", exclude={"target", "schema_version"})
    return dumped
