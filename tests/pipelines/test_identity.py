"""What decides a result and what does not, and the words for what has changed."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines import identity, services
from pipelines.catalog import STEP_KINDS
from pipelines.definition import Step
from pipelines.models import PipelineRun
from registry.models import ModelVersion
from registry.services import delete, restore
from tests.pipelines.lives import SFT, at, data, gate, go, job, model, pipeline, started, step, succeeds

pytestmark = pytest.mark.django_db


def digest(raw: dict[str, Any], inputs: dict[str, Any], digests: dict[str, str] | None = None) -> str:
    made = Step.model_validate(raw)
    settings = STEP_KINDS[made.kind].whole(made.settings)
    return identity.digest(identity.of(made, settings, inputs, digests or {}))


@pytest.fixture
def used() -> dict[str, Any]:
    return {"model": model(files={"a": "1"}), "data": data(sha256="s")}


def test_names_owners_and_labels_decide_nothing(user, used) -> None:
    one = digest(SFT, used)
    used["model"].model.name, used["model"].n, used["model"].model.owner = "other", 7, user
    used["data"].dataset.name, used["data"].n = "other", 9
    other = {**SFT, "name": "renamed", "label": "Another label", "on_failure": "go_on", "after": ["x"]}
    assert digest(other, used) == one
    assert digest(SFT, {"model": model("copy", files={"a": "1"}), "data": data("copy", sha256="s")}) == one


def test_a_default_that_is_written_out_is_the_same(used) -> None:
    one = digest({**SFT, "settings": {}}, used)
    assert digest({**SFT, "settings": {"learning_rate": 1e-4, "method": "sft", "seed": 42}}, used) == one
    assert digest({**SFT, "settings": {"method": {"name": "sft", "train_on": "assistant"}}}, used) == one
    assert digest({**SFT, "settings": {"seed": 43}}, used) != one


def test_everything_that_decides_changes_the_digest(used, monkeypatch) -> None:
    adapter = ModelVersion(kind="adapter", base=used["model"], files={"b": "1"})
    on_another = ModelVersion(kind="adapter", base=model(files={"a": "2"}), files={"b": "1"})
    chained = {**SFT, "uses": {"model": "before.model", "data": "inputs.data"}}
    as_reward = {**SFT, "uses": {"model": "before.reward_model", "data": "inputs.data"}}
    found = [
        digest(SFT, used),
        digest({**SFT, "settings": {"iters": 5}}, used),
        digest({**SFT, "settings": {"iters": 4, "method": {"name": "sft", "train_on": "all"}}}, used),
        digest(SFT, {**used, "model": model(files={"a": "2"})}),
        digest(SFT, {**used, "model": adapter}),
        digest(SFT, {**used, "model": on_another}),
        digest(SFT, {**used, "data": data(sha256="t")}),
        digest(SFT, {**used, "data": data(sha256="s", data_format="completion")}),
        digest(chained, used, {"before": "1" * 64}),
        digest(chained, used, {"before": "2" * 64}),
        digest(as_reward, used, {"before": "2" * 64}),
        digest({"name": "m", "kind": "evaluate", "uses": SFT["uses"]}, used),
    ]
    monkeypatch.setattr(identity, "ENGINE_VERSION", "another")
    found.append(digest(SFT, used))
    assert len(set(found)) == len(found)


def test_a_folder_whose_files_are_not_known_is_only_equal_to_itself(used) -> None:
    one, other = model(files={}), model(files={})
    assert digest(SFT, {**used, "model": one}) == digest(SFT, {**used, "model": one})
    assert digest(SFT, {**used, "model": one}) != digest(SFT, {**used, "model": other})


def finished(user: Any, made: Any, **chosen: Any) -> PipelineRun:
    """A run whose training has succeeded, computed or taken."""
    run = started(user, made, **chosen)
    if at(run, "sft").state == "running":
        succeeds(job(run, "sft"), val_loss=1.5)
    return go(run)


def test_an_equal_step_of_another_pipeline_stands_for_it(user, used) -> None:
    first = finished(user, pipeline(user, SFT), **used)
    second = started(user, pipeline(user, {**SFT, "name": "teach", "label": "Teach"}, name="Other"), **used)
    taken = at(second, "teach")
    assert taken.reused == at(first, "sft") and taken.job == job(first, "sft")
    assert taken.outputs == at(first, "sft").outputs and second.state == "succeeded"
    assert identity.earlier(taken, user) == at(first, "sft")


def test_a_deleted_model_stands_for_nothing_until_it_is_restored(user, used) -> None:
    made = pipeline(user, SFT)
    first = finished(user, made, **used)
    version = ModelVersion.objects.get(pk=at(first, "sft").outputs["model"])
    delete(user, version.model)
    second = started(user, made, **used)
    assert identity.earlier(at(second, "sft"), user) is None and at(second, "sft").reused is None
    restore(user, version.model)
    assert identity.earlier(at(second, "sft"), user) == at(first, "sft")
    ModelVersion.objects.filter(pk=version.pk).delete()
    assert identity.earlier(at(second, "sft"), user) is None


def test_a_result_that_was_taken_is_traced_to_where_it_was_made(user, used) -> None:
    made = pipeline(user, SFT)
    first, _, third = finished(user, made, **used), finished(user, made, **used), finished(user, made, **used)
    assert at(third, "sft").reused == at(first, "sft"), "not the one that took it itself"


def test_figures_alone_are_taken_too(user, used) -> None:
    measure = step("measure", "evaluate", uses=SFT["uses"], settings={"rows": 2})
    made = pipeline(user, measure)
    run = started(user, made, **used)
    succeeds(job(run, "measure"), loss=1.25)
    go(run)
    again = started(user, made, **used)
    assert again.state == "succeeded" and at(again, "measure").outputs == {"metrics": {"loss": 1.25}}


def test_steps_that_decide_are_never_taken(user) -> None:
    made = pipeline(user, gate("gate", "1 < 2"), inputs={})
    first, second = started(user, made), started(user, made)
    assert (at(first, "gate").digest, at(second, "gate").reused) == (at(second, "gate").digest, None)


def why(run: PipelineRun) -> str:
    return at(run, "sft").why


def test_the_reason_says_what_has_changed(user, used) -> None:
    made = pipeline(user, SFT)
    first = started(user, made, **used)
    assert why(first) == "It runs for the first time."
    succeeds(job(first, "sft"))
    go(first)
    assert (
        why(finished(user, made, **used)) == f"Taken from run #{first.number}: same model, data, settings and engine."
    )
    assert why(finished(user, made, **{**used, "data": data()})) == "Since run #2 changed: data."
    assert why(finished(user, made, **{**used, "model": model()})) == "Since run #3 changed: data, model."
    services.change(user, made, services.checked({
        "name": "P", "inputs": {"model": {"type": "model"}, "data": {"type": "dataset"}},
        "steps": [{**SFT, "settings": {"iters": 9, "method": {"name": "sft", "train_on": "all"}, "seed": 1}}],
    }))  # fmt: skip
    assert (
        why(finished(user, made, **used))
        == "Since run #4 changed: model, iters 4 → 9, method.train_on assistant → all and 1 more."
    )


def test_a_failed_run_before_leaves_no_result(user, used) -> None:
    made = pipeline(user, SFT)
    first = started(user, made, **used)
    services.cancel(user, first)
    go(first)
    assert (
        why(started(user, made, **used))
        == f"Nothing has changed since run #{first.number}, but no result of it is left."
    )


def test_a_later_run_is_not_before(user, used) -> None:
    made = pipeline(user, SFT)
    first = started(user, made, **used)
    services.cancel(user, first)
    go(first)
    finished(user, made, **{**used, "data": data()})
    assert identity.differences(at(first, "sft")) == "It runs for the first time."
