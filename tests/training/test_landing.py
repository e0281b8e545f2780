from __future__ import annotations

import json

import pytest
from django.conf import settings

from mlxplatform.core.errors import DomainError
from registry.models import ModelVersion
from tests.training.runs import make_job
from training.landing import land
from training.models import DatasetVersion
from training.orders import version_id

pytestmark = pytest.mark.django_db


@pytest.fixture
def trained():
    job = make_job(name="my adapter")
    folder = job.run_dir.root / "checkpoints/0000040"
    folder.mkdir(parents=True)
    for name in ("adapters.safetensors", "adapter_config.json", "optimizer.safetensors"):
        (folder / name).write_text(name)
    return job


RESULT = {"checkpoint": "checkpoints/0000040", "val_loss": 1.5, "best_val_loss": None, "step": 40}


def test_a_training_becomes_an_adapter(trained):
    ids = land(trained, RESULT)
    version = ModelVersion.objects.get(job_id=trained.pk)
    assert ids["model_version"] == str(version.pk)
    assert (version.kind, version.n, version.model.name, version.base) == (
        "adapter",
        1,
        "my adapter",
        trained.model_version,
    )
    assert sorted(p.name for p in version.folder.iterdir()) == ["adapter_config.json", "adapters.safetensors"]
    assert sorted(version.files) == ["adapter_config.json", "adapters.safetensors"]
    assert version.metrics == {"val_loss": 1.5, "step": 40}
    assert version.heads == [] and not version.is_reward_model


def test_a_reward_model_is_known_by_its_head(trained):
    header = {"score.weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}}
    raw = json.dumps(header).encode()
    weights = trained.run_dir.root / "checkpoints/0000040/adapters.safetensors"
    weights.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(4))
    land(trained, RESULT)
    version = ModelVersion.objects.get(job_id=trained.pk)
    assert version.heads == ["score"] and version.is_reward_model


def test_landing_twice_changes_nothing(trained):
    assert land(trained, RESULT) == land(trained, RESULT)
    assert ModelVersion.objects.filter(job_id=trained.pk).count() == 1


def test_a_half_made_folder_is_made_again(trained):
    half = settings.HOME / "models" / f".part-{land(trained, RESULT)['model_version']}"
    ModelVersion.objects.filter(job_id=trained.pk).delete()
    half.mkdir()
    assert land(trained, RESULT)["model_version"]
    assert half.exists() is False or not any(half.iterdir())


def test_the_same_name_is_the_next_version(trained):
    land(trained, RESULT)
    other = make_job(name="my adapter")
    folder = other.run_dir.root / "checkpoints/0000040"
    folder.mkdir(parents=True)
    for name in ("adapters.safetensors", "adapter_config.json"):
        (folder / name).write_text(name)
    land(other, RESULT)
    assert list(ModelVersion.objects.filter(model__name="my adapter").values_list("n", flat=True)) == [2, 1]


@pytest.mark.parametrize("checkpoint", [None, "", "../..", "/etc", "checkpoints/0000099"])
def test_a_result_that_leads_elsewhere_is_refused(trained, checkpoint):
    with pytest.raises(DomainError, match="is not there"):
        land(trained, {"checkpoint": checkpoint})


def test_a_checkpoint_without_weights_is_refused(trained):
    (trained.run_dir.root / "checkpoints/0000040/adapters.safetensors").unlink()
    with pytest.raises(DomainError, match=r"no adapters\.safetensors"):
        land(trained, RESULT)


def test_an_imported_model():
    job = make_job(
        kind="import_model", name="Import x", settings={"name": "smol", "source": {"kind": "gguf", "path": "/x"}}
    )
    target = settings.HOME / "models" / str(version_id(job))
    target.mkdir(parents=True)
    (target / "config.json").write_text("{}")
    land(
        job, {"model_type": "llama", "parameters": 5, "quantization": {"bits": 4, "group_size": 32}, "source": "gguf:x"}
    )
    version = ModelVersion.objects.get(job_id=job.pk)
    assert (version.kind, version.model.name, version.parameters) == ("base", "smol", 5)
    assert version.source["from"] == "gguf:x" and version.is_trainable


def test_an_imported_data_set_and_the_same_rows_again():
    for n in (1, 2):
        job = make_job(kind="import_dataset", settings={"name": "docs", "source": {"kind": "python_docs"}})
        (settings.HOME / "datasets" / "c0ffee").mkdir(parents=True, exist_ok=True)
        result = {"sha256": "c0ffee", "data_format": "chat", "rows": {"train": 9, "valid": 1}, "bytes": 77}
        land(job, json.loads(json.dumps(result)))
        land(job, result)
        version = DatasetVersion.objects.get(job=job)
        assert (version.n, version.rows_train, version.rows_valid, version.sha256) == (n, 9, 1, "c0ffee")
