"""What can be asked of the two import commands; the counterpart of ``config.py`` for trainings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from training.engine import SCHEMA


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


class ImportModelConfig(_Base):
    """``config.json`` of ``python -m training.engine import-model``."""

    schema_version: Literal[1] = Field(SCHEMA, alias="schema")
    source: Annotated[GgufSource | FolderSource | HubSource, Field(discriminator="kind")]
    target: Path = Field(description="Folder to make; it appears when it is complete.")


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


class PythonDocsSource(_Base):
    """Questions and answers made from the docstrings of this machine's Python standard library."""

    kind: Literal["python_docs"] = "python_docs"
    limit: int = Field(600, ge=12, le=100_000, description="Most rows to make.")


class ImportDatasetConfig(_Base):
    """``config.json`` of ``python -m training.engine import-dataset``."""

    schema_version: Literal[1] = Field(SCHEMA, alias="schema")
    source: Annotated[FileSource | HubDataSource | PythonDocsSource, Field(discriminator="kind")]
    data_format: str = Field("", description="Name of a row format; recognised from the rows if empty.")
    valid_share: float = Field(0.05, ge=0, lt=1, description="Share of the rows put aside for validation.")
    test_share: float = Field(0.0, ge=0, lt=1, description="Share of the rows put aside for the final test.")
    max_rows: int = Field(0, ge=0, description="Import at most so many rows; 0: all.")
    skip_bad_rows: bool = Field(False, description="Leave out rows with problems instead of refusing the file.")
    seed: int = Field(42, ge=0, lt=1 << 32)
    target: Path = Field(description="The data sets folder; the version's folder in it is named by its hash.")
