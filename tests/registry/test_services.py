from __future__ import annotations

import hashlib
import uuid

import pytest
from django.conf import settings

from mlxplatform.core.access import Role, make_user
from registry import services
from registry.models import ModelVersion
from registry.services import Found

pytestmark = pytest.mark.django_db


@pytest.fixture
def editor():
    return make_user("alice", Role.EDITOR)


def folder(content="weights"):
    path = settings.HOME / "models" / uuid.uuid4().hex
    path.mkdir(parents=True)
    (path / "model.safetensors").write_text(content)
    return path


def register(name="m", **more) -> ModelVersion:
    return services.register(name=name, folder=folder(), found=Found(kind="base"), **more)


def test_a_folder_is_registered_with_its_hashes():
    version = register()
    assert version.files == {"model.safetensors": hashlib.sha256(b"weights").hexdigest()}
    assert (version.bytes, version.n, version.folder.is_dir()) == (7, 1, True)


def test_known_hashes_are_not_computed_again():
    found = Found(kind="base", files={"model.safetensors": "a" * 64, "strange": "no hash"})
    version = services.register(name="m", folder=folder(), found=found)
    assert version.files == {"model.safetensors": "a" * 64}


def test_versions_count_up():
    assert [register().n, register().n, register("other").n] == [1, 2, 1]


def test_the_same_version_twice_is_one():
    key = uuid.uuid4()
    assert register(version_id=key) == register(version_id=key)
    assert ModelVersion.objects.count() == 1


def test_a_model_in_the_trash_gets_no_new_version(editor):
    services.delete(editor, register().model)
    assert register().model.name == "m 2"
