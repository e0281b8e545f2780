"""Pages of models: list, model, version, files, trash."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from mlxplatform.core.access import Role, make_user
from registry import services, views
from registry.models import ModelVersion, RegisteredModel

pytestmark = pytest.mark.django_db


@pytest.fixture
def editor() -> Any:
    return make_user("grace", Role.EDITOR)


@pytest.fixture
def page(client: Client, editor: Any) -> Client:
    client.force_login(editor)
    return client


def make_version(name: str = "SmolLM2", **columns: Any) -> ModelVersion:
    """A version whose two files lie on the disk."""
    model, _ = RegisteredModel.objects.get_or_create(name=name)
    n = model.versions.count() + 1
    defaults = {"kind": "base", "path": f"models/{uuid.uuid4()}", "model_type": "llama", "bytes": 10, "parameters": 5}
    version = ModelVersion(model=model, n=n, **{**defaults, **columns})
    version.folder.mkdir(parents=True)
    for file in ("config.json", "model.safetensors"):
        (version.folder / file).write_bytes(file.encode())
        version.files[file] = hashlib.sha256(file.encode()).hexdigest()
    version.save()
    return version


def test_the_list_shows_each_model_by_its_newest_version(page: Client) -> None:
    make_version("one")
    newest = make_version("one", metrics={"best_val_loss": 1.25})
    make_version("two", license="<b>mine</b>")
    rows = page.get("/models/").context["rows"]
    assert [(row.model.name, row.n) for row, _ in rows] == [("two", 1), ("one", 2)]
    assert (newest, ("Best validation loss", 1.25)) in rows
    assert b"<b>mine</b>" not in page.get("/models/").content


@pytest.mark.parametrize(
    ("query", "names"),
    [("q=tw", ["two"]), ("kind=adapter", []), ("sort=name", ["one", "two"]), ("sort=%27;--", ["two", "one"])],
)
def test_the_list_is_searched_filtered_and_sorted_by_its_address(page: Client, query: str, names: list[str]) -> None:
    make_version("one")
    make_version("two")
    assert [row.model.name for row, _ in page.get(f"/models/?{query}").context["rows"]] == names


def test_the_number_of_queries_does_not_grow(page: Client, django_assert_max_num_queries: Any) -> None:
    base = make_version("base")
    for i in range(20):
        make_version(f"m{i}", kind="adapter", base=base)
    with django_assert_max_num_queries(10):
        page.get("/models/")


def test_a_version_tells_its_files_with_hashes(page: Client) -> None:
    version = make_version()
    answer = page.get(reverse("model_version", args=[version.pk]))
    assert [(f.name, f.bytes) for f in answer.context["files"]] == [("config.json", 11), ("model.safetensors", 17)]
    assert version.files["config.json"].encode() in answer.content


def test_a_missing_file_is_said(page: Client) -> None:
    version = make_version()
    (version.folder / "model.safetensors").unlink()
    answer = page.get(reverse("model_version", args=[version.pk]))
    assert answer.context["missing"] == ["model.safetensors"]
    assert b"1 file of this version is missing" in answer.content


def test_the_snippet_loads_an_adapter_on_its_base() -> None:
    base = make_version()
    adapter = make_version("tuned", kind="adapter", base=base)
    text = views.load_snippet(adapter)
    compile(text, "snippet", "exec")
    assert f'"{base.folder}",\n    adapter_path="{adapter.folder}"' in text


def test_a_file_is_downloaded_by_its_place(page: Client) -> None:
    version = make_version()
    answer = page.get(reverse("model_file", args=[version.pk, 0]))
    assert b"".join(answer.streaming_content) == b"config.json"
    assert answer["Content-Disposition"] == 'attachment; filename="config.json"'
    assert page.get(reverse("model_file", args=[version.pk, 2])).status_code == 404


@pytest.mark.parametrize("name", ["../secret", "link.json"])
def test_no_file_outside_the_folder_is_served(page: Client, name: str) -> None:
    version = make_version()
    (version.folder.parent / "secret").write_text("s")
    (version.folder / "link.json").symlink_to(version.folder.parent / "secret")
    ModelVersion.objects.filter(pk=version.pk).update(files={name: "0" * 64})
    assert page.get(reverse("model_file", args=[version.pk, 0])).status_code == 404


def test_trash_and_undo(page: Client) -> None:
    model = make_version().model
    answer = page.post(reverse("model_delete", args=[model.pk]), follow=True)
    assert answer.context["undo"] == model and answer.context["rows"] == []
    assert page.get(reverse("model", args=[model.pk])).status_code == 404
    page.post(reverse("model_restore", args=[model.pk]))
    assert page.get(reverse("model", args=[model.pk])).status_code == 200


def test_two_models_cannot_have_one_name(page: Client) -> None:
    make_version("taken")
    model = make_version("mine").model
    answer = page.post(reverse("model_edit", args=[model.pk]), {"name": "taken"})
    assert answer.status_code == 422 and b"taken" in answer.content
    page.post(reverse("model_edit", args=[model.pk]), {"name": "new name", "description": "said"})
    model.refresh_from_db()
    assert (model.name, model.description) == ("new name", "said")


def test_a_viewer_sees_no_buttons_and_changes_nothing(client: Client) -> None:
    client.force_login(make_user("vic", Role.VIEWER))
    model = make_version().model
    assert b"Delete" not in client.get(reverse("model", args=[model.pk])).content
    for name in ("model_delete", "model_edit"):
        assert client.post(reverse(name, args=[model.pk]), {"name": "x"}).status_code == 403
    model.refresh_from_db()
    assert model.deleted_at is None


def test_an_unknown_id_is_a_404(page: Client) -> None:
    assert page.get(reverse("model", args=[uuid.uuid4()])).status_code == 404
    assert page.get("/models/?trashed=nonsense").status_code == 200


def test_deleting_needs_a_post(page: Client) -> None:
    model = make_version().model
    assert page.get(reverse("model_delete", args=[model.pk])).status_code == 405
    assert services.RegisteredModel.objects.filter(deleted_at=None).exists()
