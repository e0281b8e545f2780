"""Forms by which data sets and models are brought in."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from django import forms

from mlxplatform.core.errors import DomainError
from training.engine.catalog.formats import FORMATS
from training.engine.config.imports import DOCS_FORMS
from training.uploads import EXTENSIONS

DATA_EXTENSIONS = tuple(e for e in EXTENSIONS if e != ".gguf")
#: Part of a problem's place → the field that shows it, where the two differ.
FIELDS = {"upload": "file", "form": "docs_form", "valid_share": "valid_percent", "test_share": "test_percent"}


def new_key() -> str:
    """A key that makes pressing the button twice harmless."""
    return str(uuid4())


class ImportForm(forms.Form):
    """What every import asks for; shows a refusal beside the fields it is about."""

    name = forms.CharField(required=False, max_length=120, help_text="Taken from the source if empty.")
    key = forms.CharField(widget=forms.HiddenInput, initial=new_key, max_length=120)

    def refuse(self, error: DomainError) -> None:
        """Put every problem of ``error`` beside its field, or above the form."""
        for problem in error.problems:
            names = [FIELDS.get(str(part), str(part)) for part in reversed(problem.loc)]
            if problem.code.startswith("upload."):
                names.append("file")
            field = next((name for name in names if name in self.fields), None)
            self.add_error(field, forms.ValidationError(f"{problem.message} {problem.hint}".strip(), problem.code))


class UploadForm(forms.Form):
    """A data file from the visitor's machine."""

    file = forms.FileField(
        help_text="JSONL, JSON, CSV, Parquet, Arrow or text.",
        widget=forms.ClearableFileInput(attrs={"accept": ",".join(DATA_EXTENSIONS)}),
    )

    refuse = ImportForm.refuse


class PathForm(forms.Form):
    """A file or folder of the server."""

    path = forms.CharField(
        label="File or folder on the server",
        max_length=1000,
        widget=forms.TextInput(attrs={"spellcheck": "false", "autocapitalize": "none", "autocomplete": "off"}),
    )

    refuse = ImportForm.refuse


class SplitForm(ImportForm):
    """How the rows are divided and how many are taken."""

    data_format = forms.ChoiceField(
        label="Format",
        required=False,
        choices=[("", "Recognise it"), *[(row.name, row.label) for row in FORMATS.listed]],
    )
    valid_percent = forms.IntegerField(
        label="Validation", min_value=0, max_value=50, initial=5, help_text="Put aside to see whether it learns."
    )
    test_percent = forms.IntegerField(
        label="Test", min_value=0, max_value=50, initial=0, help_text="Put aside for the very end."
    )
    max_rows = forms.IntegerField(label="At most", required=False, min_value=1, help_text="All rows if empty.")
    skip_bad_rows = forms.BooleanField(label="Leave out rows with problems", required=False)

    def options(self) -> dict[str, Any]:
        """The options of ``services.create_dataset_import``."""
        values = self.cleaned_data
        return {
            "data_format": values["data_format"],
            "valid_share": values["valid_percent"] / 100,
            "test_share": values["test_percent"] / 100,
            "max_rows": values["max_rows"] or 0,
            "skip_bad_rows": values["skip_bad_rows"],
        }


class HubDataForm(SplitForm):
    """A data set of the Hugging Face Hub."""

    repo_id = forms.CharField(label="Hub id", max_length=120, help_text="Such as HuggingFaceH4/no_robots.")
    config = forms.CharField(required=False, max_length=120, help_text="The subset, where the data set has several.")
    split = forms.CharField(required=False, max_length=120, help_text="All of them if empty.")
    revision = forms.CharField(required=False, max_length=120, initial="main", help_text="Pinned to its commit.")

    def source(self) -> dict[str, Any]:
        """The source of ``services.create_dataset_import``."""
        values = self.cleaned_data
        return {
            "kind": "hub",
            "repo_id": values["repo_id"].strip(),
            "config": values["config"].strip(),
            "split": values["split"].strip(),
            "revision": values["revision"].strip() or "main",
        }


class DocsForm(ImportForm):
    """The set made of the Python standard library's own documentation."""

    docs_form = forms.ChoiceField(
        label="Format",
        required=False,
        choices=[(name, FORMATS[name].label) for name in DOCS_FORMS],
        help_text="What the rows can teach.",
    )
    limit = forms.IntegerField(label="Rows", min_value=12, max_value=100_000, initial=600, help_text="At most so many.")

    def source(self) -> dict[str, Any]:
        """The source of ``services.create_dataset_import``."""
        values = self.cleaned_data
        return {"kind": "python_docs", "form": values["docs_form"] or "chat", "limit": values["limit"]}


class ModelUploadForm(ImportForm):
    """A GGUF file from the visitor's machine."""

    file = forms.FileField(
        label="GGUF file",
        help_text="Llama and Qwen families. Its weights, tokenizer and chat template are taken over.",
        widget=forms.ClearableFileInput(attrs={"accept": ".gguf"}),
    )


class AdapterForm(ImportForm):
    """An import of a whole model, or of an adapter for one that is there; the view fills in which there are."""

    base_version_id = forms.ChoiceField(
        required=False, label="What it is", help_text="An adapter of mlx-lm or PEFT belongs on its base model."
    )


class ModelPathForm(AdapterForm):
    """A GGUF file, a model folder or an adapter's folder of the server."""

    path = forms.CharField(
        label="GGUF file or model folder on the server",
        max_length=1000,
        widget=forms.TextInput(attrs={"spellcheck": "false", "autocapitalize": "none", "autocomplete": "off"}),
    )

    def source(self) -> dict[str, Any]:
        """The source of ``services.create_model_import``: the name tells file from folder."""
        path = self.cleaned_data["path"].strip()
        return {"kind": "gguf" if path.lower().endswith(".gguf") else "folder", "path": path}


class ModelHubForm(AdapterForm):
    """A model or an adapter of the Hugging Face Hub."""

    repo_id = forms.CharField(label="Hub id", max_length=120, help_text="Such as mlx-community/SmolLM2-135M-Instruct.")
    revision = forms.CharField(required=False, max_length=120, initial="main", help_text="Pinned to its commit.")

    def source(self) -> dict[str, Any]:
        """The source of ``services.create_model_import``."""
        values = self.cleaned_data
        return {
            "kind": "hub",
            "repo_id": values["repo_id"].strip(),
            "revision": values["revision"].strip() or "main",
        }


class NameForm(forms.Form):
    """Another name."""

    name = forms.CharField(max_length=120)
