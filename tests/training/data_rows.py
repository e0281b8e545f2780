"""Data set versions with rows, for tests of their pages."""

from __future__ import annotations

import json
import uuid
from typing import Any

from django.urls import reverse

from training.models import Dataset, DatasetVersion


def chat(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


ASKED = [{"role": "user", "content": "is it?"}]
PAIR = {"prompt": ASKED, "chosen": "yes", "rejected": "no", "margin": 2.0}


def make_version(found: list[Any], name: str = "support", **columns: Any) -> DatasetVersion:
    """A version whose training rows are ``found``."""
    dataset, _ = Dataset.objects.get_or_create(name=name)
    n = dataset.versions.count() + 1
    version = DatasetVersion.objects.create(
        dataset=dataset, n=n, sha256=uuid.uuid4().hex, rows_train=len(found), **{"data_format": "chat", **columns}
    )
    version.folder.mkdir(parents=True)
    (version.folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    return version


def url(name: str, version: DatasetVersion, query: str = "") -> str:
    return reverse(name, args=[version.dataset_id]) + query
