"""Models over the API."""

from __future__ import annotations

import uuid

import pytest
from django.test import Client

from mlxplatform.core.access import Role, make_user
from registry.models import Alias, ModelVersion, RegisteredModel

pytestmark = pytest.mark.django_db
ROOT = "/api/v1/models"


@pytest.fixture
def visitor() -> Client:
    client = Client(HTTP_HOST="localhost")
    client.force_login(make_user("vi", Role.VIEWER))
    return client


@pytest.fixture
def version() -> ModelVersion:
    model = RegisteredModel.objects.create(name="tiny")
    return ModelVersion.objects.create(
        model=model, n=1, kind="base", path="models/x", files={"a.safetensors": "0" * 64}
    )


def test_list_with_newest_version(visitor, version) -> None:
    (row,) = visitor.get(ROOT).json()["items"]
    assert (row["name"], row["newest"]["id"]) == ("tiny", str(version.pk))


def test_a_model_with_its_aliases(visitor, version) -> None:
    Alias.objects.create(model=version.model, name="champion", version=version)
    assert visitor.get(f"{ROOT}/{version.model_id}").json()["aliases"] == {"champion": 1}


def test_versions_and_files(visitor, version) -> None:
    assert visitor.get(f"{ROOT}/{version.model_id}/versions").json()["items"][0]["n"] == 1
    assert visitor.get(f"{ROOT}/versions/{version.pk}").json()["files"] == {"a.safetensors": "0" * 64}


def test_paths_on_the_server_stay_there(visitor, version) -> None:
    assert "models/x" not in visitor.get(f"{ROOT}/versions/{version.pk}").content.decode()


def test_the_trash_is_not_listed(visitor, version) -> None:
    RegisteredModel.objects.update(deleted_at="2026-01-01T00:00:00Z")
    assert visitor.get(ROOT).json()["items"] == []


NOBODY = uuid.UUID(int=7)


@pytest.mark.parametrize("path", [f"/{NOBODY}", f"/{NOBODY}/versions", f"/versions/{NOBODY}"])
def test_an_unknown_id_is_404(visitor, path) -> None:
    response = visitor.get(ROOT + path)
    assert (response.status_code, response.json()["errors"][0]["code"]) == (404, "model.unknown")
