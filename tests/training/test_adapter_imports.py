"""An adapter that comes from elsewhere: form and API to a version on its base."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import settings
from django.urls import reverse

from mlxplatform.core.access import Role, make_user
from mlxplatform.core.errors import Invalid
from registry.models import ModelVersion
from tests.training.runs import make_job
from training import orders, services, starts
from training.landing import land
from training.models import Job

pytestmark = pytest.mark.django_db


@pytest.fixture
def base() -> ModelVersion:
    version = make_job().model_version
    Job.objects.all().delete()
    return version


@pytest.fixture
def editor():
    return make_user("ed", Role.EDITOR)


HUB = {"kind": "hub", "repo_id": "org/tuned"}


def test_it_becomes_a_version_on_its_base(base, editor) -> None:
    job = services.create_model_import(editor, dict(HUB), "tuned", base_version_id=base.pk)
    assert orders.config(job)["base"] == str(base.folder)
    target = Path(settings.HOME) / "models" / str(orders.version_id(job))
    target.mkdir(parents=True)
    for name in ("adapter_config.json", "adapters.safetensors"):
        (target / name).write_text(name)
    land(job, {"model_type": "llama", "parameters": 5, "quantization": {"bits": 4}, "source": "hub:org/tuned"})
    version = ModelVersion.objects.get(job_id=job.pk)
    assert (version.kind, version.base, version.parameters, version.quantization) == ("adapter", base, 0, None)
    assert starts.place(version).model == base.folder
    assert version.is_trainable


def test_a_base_that_is_none_is_refused(base, editor) -> None:
    adapter = ModelVersion.objects.create(model=base.model, n=9, kind="adapter", base=base, path="models/a")
    for wrong, code in ((adapter.pk, "model.not_whole"), ("no-uuid", "model.unknown")):
        with pytest.raises(Invalid) as refused:
            services.create_model_import(editor, dict(HUB), base_version_id=wrong)
        assert [p.code for p in refused.value.problems] == [code]


def test_an_adapter_is_no_gguf_file(base, editor) -> None:
    source = {"kind": "wheel", "package": "x", "version": "1", "file": "x.gguf", "sha256": "0" * 64}
    with pytest.raises(Invalid, match="folder or the hub"):
        services.create_model_import(editor, source, base_version_id=base.pk)


def test_the_form_offers_bases_and_asks_again_for_the_same(base, editor, client) -> None:
    client.force_login(editor)
    address = reverse("model_import") + "?from=hub"
    assert f'<option value="{base.pk}">adapter for base v1</option>' in client.get(address).content.decode()
    client.post(address, {"repo_id": "org/tuned", "key": "k", "base_version_id": str(base.pk)})
    job = Job.objects.get(kind="import_model")
    assert (job.model_version, job.settings["base"]) == (base, str(base.folder))
    client.post(reverse("import_again", args=[job.pk]))
    assert Job.objects.filter(kind="import_model", model_version=base).count() == 2
