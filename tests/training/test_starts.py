"""Trainings that begin with an adapter: what the engine is told, and what comes of them."""

from __future__ import annotations

import pytest
from django.urls import reverse

from mlxplatform.core.access import Role, make_user
from registry import views
from registry.models import ModelVersion, RegisteredModel
from tests.training.runs import make_job
from training import memory_plans, orders, services, starts
from training.forms import SettingsForm, prefilled
from training.landing import land
from training.models import Job

pytestmark = pytest.mark.django_db


@pytest.fixture
def begun() -> Job:
    """A training that starts from an adapter version."""
    job = make_job()
    tuned = RegisteredModel.objects.create(name="tuned")
    base = job.model_version
    job.model_version = ModelVersion.objects.create(model=tuned, n=1, kind="adapter", base=base, path="models/tuned")
    job.save()
    return job


def test_the_engine_is_told_base_and_adapter(begun: Job) -> None:
    base, adapter = begun.model_version.base, begun.model_version
    config = orders.config(begun)
    assert (config["model"], config["adapter_path"]) == (str(base.folder), str(adapter.folder))
    assert starts.folders(base) == {"model": str(base.folder)}
    assert orders.config(make_job())["adapter_path"] is None


def test_what_comes_of_it_stands_on_the_whole_base_and_knows_its_start(begun: Job) -> None:
    folder = begun.run_dir.root / "checkpoints/0000002"
    folder.mkdir(parents=True)
    names = ["adapter_config.json", "adapters.safetensors", "before.1.json", "before.1.safetensors"]
    for name in [*names, "optimizer.safetensors"]:
        (folder / name).write_text(name)
    land(begun, {"checkpoint": "checkpoints/0000002"})
    version = ModelVersion.objects.get(job_id=begun.pk)
    assert (version.base, sorted(version.files)) == (begun.model_version.base, names)
    assert (version.source["start"], version.source["start_version"]) == ("tuned v1", str(begun.model_version_id))
    assert starts.place(version).adapter == version.folder
    assert ("Began with", "tuned v1") in views.source_words(version.source)
    snippet = views.load_snippet(version)
    assert "mlx_lm" not in snippet.replace("mlx-lm", "")
    compile(snippet, "snippet", "exec")


def test_it_may_be_asked_for_and_chosen(begun: Job, client) -> None:
    editor = make_user("ed", Role.EDITOR)
    client.force_login(editor)
    page = client.get(reverse("job_new")).content.decode()
    assert f'value="{begun.model_version_id}"' in page
    assert "adapter of base" in page
    job = services.create_training(
        editor, model_version_id=begun.model_version_id, dataset_version_id=begun.dataset_version_id, settings={}
    )
    assert job.model_version == begun.model_version
    question = memory_plans.question(_settings(), job.model_version, job.dataset_version)
    assert question["adapter_path"] == str(begun.model_version.folder)


def test_full_training_minds_the_bits_of_the_adapters_base(begun: Job) -> None:
    ModelVersion.objects.filter(pk=begun.model_version.base_id).update(quantization={"bits": 4, "group_size": 32})
    with pytest.raises(Exception, match="quantised"):
        services.create_training(
            make_user("ed", Role.EDITOR),
            model_version_id=begun.model_version_id,
            dataset_version_id=begun.dataset_version_id,
            settings={"adapter": "full"},
        )


def test_ranks_by_module_are_lines_of_the_form() -> None:
    form = SettingsForm({"adapter.rank_pattern": "self_attn.q_proj=32\r\nmlp.up_proj = 4\r\n"})
    assert form.is_valid(), form.problems
    assert form.settings.adapter.rank_pattern == {"self_attn.q_proj": 32, "mlp.up_proj": 4}
    texts = prefilled(form.settings.model_dump(mode="json"), 10)
    assert texts["adapter.rank_pattern"] == "self_attn.q_proj=32\nmlp.up_proj=4"
    wrong = SettingsForm({"adapter.rank_pattern": "q_proj: 4"})
    assert not wrong.is_valid()
    assert any(field.problems for field in wrong.block("adapter").fields if field.path == "adapter.rank_pattern")


def _settings():
    form = SettingsForm({})
    assert form.is_valid()
    return form.settings
