"""What can be asked of the engine, and every problem with it at once.

``TrainSettings`` is what a person chooses; ``TrainConfig`` adds where model and data lie and is the
whole of ``config.json``. The form, the API and the command line all go through :func:`check`, so a
mistake has the same code and sentence everywhere. Setting names are mlx-lm's where it has them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypeVar, Union

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from training.engine.catalog.adapters import ADAPTERS
from training.engine.catalog.method_settings import MethodSettings, Other
from training.engine.catalog.methods import METHODS
from training.engine.catalog.optimizers import OPTIMIZERS
from training.engine.catalog.parameter_groups import ParameterGroup
from training.engine.catalog.rows import Catalog, Settings, code_of_its_own, setting
from training.engine.catalog.rules import MAX_RULES, RULES, Rule
from training.engine.catalog.schedules import SCHEDULES
from training.engine.catalog.supervised_methods import Sft
from training.engine.config.hostfile import HOST_NAME
from training.engine.errors import ConfigError, Problem
from training.engine.folders.places import Place

MAX_CONFIG = 1 << 20  # bytes
ModelT = TypeVar("ModelT", bound=BaseModel)

if TYPE_CHECKING:
    Method: TypeAlias = MethodSettings
    Adapter: TypeAlias = Settings
    Optimizer: TypeAlias = Settings
    Schedule: TypeAlias = Settings
else:

    def _one_of(catalog: Catalog) -> Any:
        """A discriminated union over a catalog's settings; a bare name stands for its defaults."""

        def named(value: Any) -> Any:
            if isinstance(value, str):
                return {"name": value}
            if isinstance(value, dict) and "name" not in value:
                return {"name": catalog.names[0], **value}
            return value

        types = tuple(row.settings for row in catalog)
        union = Annotated[Union[types], Field(discriminator="name")] if len(types) > 1 else types[0]  # noqa: UP007
        return Annotated[union, BeforeValidator(named)]

    Method, Adapter = _one_of(METHODS), _one_of(ADAPTERS)
    Optimizer, Schedule = _one_of(OPTIMIZERS), _one_of(SCHEDULES)

Prompt = Annotated[str, Field(min_length=1, max_length=4000)]
#: A host ends up in a command line: no sign that a shell or an option parser would take for its own.
HostName = Annotated[str, Field(pattern=HOST_NAME)]


class TrainSettings(BaseModel):
    """Everything a person may choose about a training, apart from model and data.

    A *step* is one optimizer update: ``batch_size * grad_accumulation_steps`` rows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    method: Method = Field(default_factory=Sft, title="Method")
    adapter: Adapter = Field(default_factory=lambda: ADAPTERS["lora"].settings(name="lora"), title="Adapter")
    optimizer: Optimizer = Field(default_factory=lambda: OPTIMIZERS["adamw"].settings(name="adamw"), title="Optimizer")
    lr_schedule: Schedule = Field(default_factory=lambda: SCHEDULES["cosine"].settings(name="cosine"), title="Schedule")

    epochs: float | None = setting(
        None,
        "Epochs",
        "How often every row is seen. 3 if neither epochs nor steps are given.",
        level="adjust",
        gt=0,
        le=1000,
    )
    iters: int | None = setting(
        None, "Steps", "Optimizer updates, in place of epochs.", level="adjust", ge=1, le=10**7, unit="updates"
    )
    learning_rate: float = setting(
        1e-4,
        "Learning rate",
        "Size of an update. Too high: the loss jumps or explodes; too low: it hardly moves.",
        level="adjust",
        gt=0,
        le=1,
    )
    batch_size: int = setting(
        4, "Micro-batch", "Rows computed together. Less needs less memory.", level="adjust", ge=1, le=4096, unit="rows"
    )
    batch_tokens: int | None = setting(
        None,
        "Token budget",
        "Fills each micro-batch with rows up to so many tokens, in place of a number of rows. Best on a GPU: 16384.",
        ge=64,
        le=1 << 22,
        unit="tokens",
    )
    grad_accumulation_steps: int = setting(
        1,
        "Accumulation",
        "Micro-batches summed up for one update; weighted by their tokens.",
        level="adjust",
        ge=1,
        le=4096,
    )
    max_seq_length: int = setting(
        1024, "Sequence length", "Longer rows are cut here.", level="adjust", ge=8, le=1 << 20, unit="tokens"
    )
    neftune_noise_alpha: float = setting(
        0.0,
        "NEFTune noise",
        "Noise on the embeddings in training, against learning rows by heart: uniform within alpha / sqrt(tokens of "
        "the row * hidden size). 5 is usual for chats; 0 switches it off.",
        ge=0,
        le=1000,
    )
    max_grad_norm: float = setting(
        1.0, "Gradient clipping", "Longest gradient that is used unshortened; 0 switches it off.", ge=0, le=1e6
    )
    parameter_groups: list[ParameterGroup] = setting(
        [],
        "Parameter groups",
        "Weights with a rate (lr, times the learning rate) or decay of their own, or frozen; one group in a line, such "
        "as *.lora_b lr=4 or model.layers.0.* freeze. The first group that matches a weight decides.",
        examples=["*.lora_b lr=4 weight_decay=0"],
        max_length=64,
    )
    decay_norms_and_biases: bool = setting(
        False, "Decay everything", "Weight decay also on norms, biases and other weights with one axis."
    )
    master_weights: bool = setting(
        True,
        "Float32 master weights",
        "Trained weights in 16 bits are updated in a float32 copy, so that small updates add up. 4 bytes a weight.",
    )
    grad_checkpoint: bool = setting(
        False, "Gradient checkpointing", "Less memory for about a third more time: activations are computed twice."
    )
    cache_activations: bool = setting(
        False,
        "Cache activations",
        "With adapters on the upper blocks only: what the frozen lower ones make of a row is computed once and kept "
        "in a file of 2 to 4 bytes for each token and hidden unit. Later epochs and evaluations are faster.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto", "Precision", "Number format of the computation; auto takes float32 on CPU and the model's own on a GPU."
    )
    seed: int = setting(42, "Seed", "Same seed, same machine: same result.", ge=0, lt=1 << 32)
    deterministic: bool = setting(
        False,
        "Repeatable on NVIDIA",
        "Sums always in the same order, so that a training repeats bit for bit; a third slower. A CPU always does.",
    )
    ranks: int = setting(
        1, "Ranks", "Processes, one for each device, that share the rows of every micro-batch.", ge=1, le=64
    )
    backend: Literal["auto", "ring", "nccl", "mpi", "jaccl"] = setting(
        "auto", "Link between ranks", "How ranks talk to each other; auto takes NCCL on NVIDIA and the ring elsewhere."
    )
    hosts: list[HostName] = setting(
        [],
        "Further hosts",
        "Names from the operator's hostfile, one in a line; the ranks are dealt evenly to this machine and to these.",
        max_length=63,
    )

    steps_per_report: int = setting(
        1, "Report every", "Steps between two points of the curves.", ge=1, le=10**6, unit="updates"
    )
    steps_per_eval: int | None = setting(
        None,
        "Evaluate every",
        "Steps between two evaluations; about ten in a run if empty.",
        ge=1,
        le=10**7,
        unit="updates",
    )
    val_batches: int = setting(
        -1, "Validation batches", "Micro-batches per evaluation; -1 takes the whole validation set.", ge=-1, le=10**6
    )
    patience: int = setting(
        0, "Patience", "Evaluations without a better validation loss until it stops by itself; 0: never.", ge=0, le=1000
    )
    save_every: int | None = setting(
        None,
        "Checkpoint every",
        "Steps between two checkpoints; about ten in a run if empty.",
        ge=1,
        le=10**7,
        unit="updates",
    )
    keep_checkpoints: int = setting(
        3, "Keep checkpoints", "The newest so many are kept, and the best one.", ge=1, le=1000
    )
    sample_prompts: list[Prompt] | None = setting(
        None,
        "Sample prompts",
        "Answered at each evaluation. The first three questions of the validation set if empty.",
        max_length=8,
    )
    sample_tokens: int = setting(64, "Sample length", "Longest sample; 0 makes none.", ge=0, le=4096, unit="tokens")
    eval_rules: Annotated[list[Rule], Field(max_length=MAX_RULES)] = setting(
        [],
        "Rules at evaluations",
        "What scores the model's answers to held-out rows at each evaluation, one rule in a line, such as "
        "exact_answer or regex pattern='^yes'.",
        examples=["exact_answer"],
    )
    eval_rows: int = setting(32, "Answered rows", "Held-out rows that are answered for the rules.", ge=1, le=10_000)
    eval_tokens: int = setting(
        128, "Longest scored answer", "An answer for the rules is cut here.", ge=1, le=1 << 16, unit="tokens"
    )

    @field_validator("iters")
    @classmethod
    def _one_length(cls, value: int | None, info: ValidationInfo) -> int | None:
        """On the field, not on the whole: a whole is looked at only when all of its fields are right."""
        if value is not None and info.data.get("epochs") is not None:
            raise ValueError("give either epochs or iters, not both")
        return value

    @field_validator("cache_activations")
    @classmethod
    def _noise_comes_first(cls, value: bool, info: ValidationInfo) -> bool:
        """Noise is new at every step, so what lies above it is nothing to keep."""
        if value and info.data.get("neftune_noise_alpha"):
            raise ValueError("activations cannot be cached with NEFTune noise on the embeddings; set one of them to 0")
        return value

    @field_validator("batch_tokens", "cache_activations", "ranks")
    @classmethod
    def _answers_are_rows(cls, value: Any, info: ValidationInfo) -> Any:
        """What a method writes itself is cut into micro-batches of rows, by one process."""
        method: Any = info.data.get("method")
        name = str(info.field_name)
        usual = cls.model_fields[name].default
        if method is not None and method.online and value != usual:
            message = f"{name} does not go with {method.name}, which trains on the model's own answers."
            raise code_of_its_own(
                "ranks.online" if name == "ranks" else f"online.{name}", message, f"Leave it at {usual}."
            )
        return value

    @field_validator("optimizer")
    @classmethod
    def _rate_for_loraplus(cls, value: Any, info: ValidationInfo) -> Any:
        if not value.follows_rate and getattr(info.data.get("adapter"), "loraplus_lr_ratio", 1.0) != 1.0:
            raise ValueError("relative_step ignores the rate, so loraplus_lr_ratio would have no effect")
        return value

    @field_validator("parameter_groups")
    @classmethod
    def _rates_have_an_effect(cls, value: list[ParameterGroup], info: ValidationInfo) -> list[ParameterGroup]:
        optimizer: Any = info.data.get("optimizer")
        for group in value:
            if optimizer is not None and not optimizer.follows_rate and group.lr_ratio != 1.0:
                raise ValueError(f"relative_step ignores the rate, so lr of '{group.pattern}' would have no effect")
        return value

    @field_validator("hosts")
    @classmethod
    def _even_hosts(cls, value: list[str], info: ValidationInfo) -> list[str]:
        """Every host runs as many ranks as this machine does."""
        if len(set(value)) != len(value):
            raise ValueError("a host stands there twice")
        ranks, machines = info.data.get("ranks"), 1 + len(value)
        if value and ranks is not None and ranks % machines:
            raise ValueError(f"{ranks} ranks cannot be dealt evenly to {machines} machines")
        return value


class TrainConfig(TrainSettings):
    """The whole ``config.json`` of a training."""

    schema_version: Literal[1] = Field(1, alias="schema")
    model: Path = Field(description="Folder of the base model: config.json, tokenizer, safetensors.")
    adapter_path: Path | None = Field(
        None, description="Folder of an earlier adapter: the training starts from model and adapter together."
    )
    others: dict[Other, Place] = Field({}, description="Further models: a teacher, a reward model.")
    data: Path = Field(description="Folder with train.jsonl and, where there are any, valid.jsonl and test.jsonl.")
    data_format: str = Field("", description="Name of a row format; recognised from the rows if empty.")
    kernel_cache: Path | None = Field(None, description="Folder for compiled kernels.")

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)

    @property
    def place(self) -> Place:
        """The model that the training starts from."""
        return Place(model=self.model, adapter=self.adapter_path)


def check(model: type[ModelT], raw: Any) -> ModelT:
    """``raw`` as a checked ``model``. Raises ConfigError with all the problems there are."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise ConfigError.of(problems(error)) from error


def load(model: type[ModelT], path: Path) -> ModelT:
    """The checked configuration in the JSON file ``path`` (at most 1 MiB)."""
    try:
        large = path.stat().st_size > MAX_CONFIG
        raw = None if large else json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError("config.missing", f"There is no file {path}.", "Check the path after --config.") from None
    except OSError as error:
        why = error.strerror
        raise ConfigError("config.unreadable", f"{path} cannot be read: {why}.", "Give another file.") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError("config.not_json", f"{path.name} is no valid JSON: {error}.", "Mend the file.") from None
    if large:
        raise ConfigError("config.too_large", f"{path.name} is larger than 1 MiB.", "Is it the right file?")
    return check(model, raw)


_HINTS = {
    "extra_forbidden": (
        "unknown",
        "There is no such setting.",
        "Check the spelling; /api/v1/catalog lists all of them.",
    ),
    "missing": ("missing", "This is needed.", "Give a value."),
}
_CATALOGS = {"method": METHODS, "adapter": ADAPTERS, "optimizer": OPTIMIZERS, "lr_schedule": SCHEDULES}


def problems(error: ValidationError) -> list[Problem]:
    """A pydantic error as our problems: settled codes, a sentence with the value, what to do."""
    return [problem(e) for e in error.errors(include_url=False)]


def problem(e: Any) -> Problem:
    """One entry of pydantic's ``errors()`` as a Problem."""
    kind = str(e["type"])
    loc = tuple(part for part in e["loc"])
    # Inside a union pydantic names the member after the field; people know only the field.
    if len(loc) > 1 and loc[0] in _CATALOGS and loc[1] in _CATALOGS[str(loc[0])]:
        loc = (loc[0], *loc[2:])
    # Nor does anybody know the member of a list of rules; its number is enough.
    loc = tuple(part for i, part in enumerate(loc) if not (i and isinstance(loc[i - 1], int) and part in RULES))
    field = ".".join(map(str, loc)) or "config"
    if kind == "union_tag_invalid" or (kind == "literal_error" and loc and loc[-1] == "name"):
        catalog = _CATALOGS.get(str(loc[0]))
        known = ", ".join(catalog.names) if catalog else ""
        given = e["input"].get("name") if isinstance(e["input"], dict) else e["input"]
        return Problem(loc, f"{loc[0]}.unknown", f"There is no {loc[0]} '{given}'.", f"Known are: {known}.")
    if kind in _HINTS:
        code, message, hint = _HINTS[kind]
        return Problem(loc, f"config.{code}", f"{field}: {message}", hint)
    if "." in kind:  # a fault with a code of its own
        return Problem(loc, kind, str(e["msg"]), str(e["ctx"]["hint"]))
    message = str(e["msg"]).removeprefix("Value error, ")
    given = e.get("input")
    shown = f" (given: {given!r:.60})" if isinstance(given, str | int | float | bool) else ""
    return Problem(loc, f"config.{kind}", f"{field}: {message}{shown}.", "Change the value and try again.")
