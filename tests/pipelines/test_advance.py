"""Runs from their first step to their end, with real rows, and jobs led through their lives by hand."""

from __future__ import annotations

import uuid

import pytest

from pipelines import services
from pipelines.models import PipelineRun
from registry.models import Alias, ModelVersion
from tests.pipelines.lives import (
    AFTER,
    USED,
    at,
    data,
    fails,
    gate,
    go,
    job,
    model,
    pipeline,
    runs,
    started,
    states,
    step,
    succeeds,
)
from training.models import Job

pytestmark = pytest.mark.django_db


def said(run: PipelineRun) -> list[str]:
    """The run's story: step and state, in order."""
    return [f"{event.step or 'run'} {event.to}" for event in run.events.all()]


def test_a_chain_goes_to_its_end_and_hands_models_over(user) -> None:
    made = pipeline(user, step("sft"), gate("good", "val_loss < 2", uses={"metrics": "sft.metrics"}),
                    step("dpo", uses=AFTER, after=["good"]),
                    step("name", "register", uses={"model": "dpo.model"}))  # fmt: skip
    run = started(user, made)
    assert states(run) == {"sft": "running", "good": "waiting", "dpo": "waiting", "name": "waiting"}
    first = succeeds(job(run, "sft"), val_loss=1.5)
    run = go(run)
    assert states(run) == {"sft": "succeeded", "good": "succeeded", "dpo": "running", "name": "waiting"}
    second = job(run, "dpo")
    assert str(second.model_version_id) == at(run, "sft").outputs["model"] == first.result["model_version"]
    assert second.name == "P · dpo" and second.owner == user
    succeeds(second, val_loss=1.25)
    run = go(run)
    assert (run.state, run.message, run.progress) == ("succeeded", "", 1.0) and run.ended_at is not None
    assert set(states(run).values()) == {"succeeded"}
    assert Alias.objects.get(name="champion").version == ModelVersion.objects.get(job_id=second.pk)
    assert at(run, "dpo").outputs == {
        "model": second.result["model_version"],
        "metrics": {"step": 4.0, "val_loss": 1.25},
    }
    assert at(run, "good").message == "Passed: 1.5 against 2 (val_loss < 2)."
    assert Job.objects.count() == 2
    assert said(run) == [
        "run running", "sft running", "sft succeeded", "good running", "good succeeded", "dpo running",
        "dpo succeeded", "name running", "name succeeded", "run succeeded",
    ]  # fmt: skip


def test_nothing_changes_when_nothing_has_happened(user) -> None:
    run = started(user, pipeline(user, step("sft"), step("dpo", uses=AFTER)))
    runs(job(run, "sft"))
    before = said(run)
    for _ in range(3):
        run = go(run)
    assert said(run) == before and Job.objects.count() == 1


def test_a_run_that_does_not_exist_is_nothing_to_do() -> None:
    services.advance(uuid.uuid4())
    assert not PipelineRun.objects.exists()


BRANCHES = (
    step("sft"),
    gate("good", "val_loss < 2", uses={"metrics": "sft.metrics"}),
    gate("yes", "1 < 2", after=["good"]),
    gate("no", "1 < 2", after=["good.failed"]),
)


@pytest.mark.parametrize(("loss", "good", "yes", "no"), [(1.0, "succeeded", "succeeded", "skipped"),
                                                         (3.0, "failed", "skipped", "succeeded")])  # fmt: skip
def test_a_gate_chooses_its_branch(user, loss: float, good: str, yes: str, no: str) -> None:
    run = started(user, pipeline(user, *BRANCHES))
    succeeds(job(run, "sft"), val_loss=loss)
    run = go(run)
    assert run.state == "succeeded", "a failure that a branch waits for fails nothing"
    assert states(run) == {"sft": "succeeded", "good": good, "yes": yes, "no": no}


def test_a_gate_without_a_branch_fails_the_run_with_its_figures(user) -> None:
    run = started(user, pipeline(user, *BRANCHES[:3]))
    succeeds(job(run, "sft"), val_loss=3.0)
    run = go(run)
    assert run.state == "failed"
    assert run.message == "'good' failed: Not passed: 3 against 2 (val_loss < 2)."
    assert run.progress == pytest.approx(1 / 3)  # what was not reached is not done
    assert at(run, "yes").message == "Not reached: 'good' ended failed."
    assert at(run, "good").details["comparisons"][0]["left"] == 3.0


def test_a_tolerated_failure_and_one_that_is_not(user) -> None:
    made = pipeline(user, gate("shrugged", "1 > 2", on_failure="go_on"), gate("bad", "1 > 3"), inputs={})
    run = started(user, made)
    assert run.state == "failed" and run.message == "'bad' failed: Not passed: 1 against 3 (1 > 3)."
    assert started(user, pipeline(user, gate("shrugged", "1 > 2", on_failure="go_on"), inputs={})).state == "succeeded"


def test_a_figure_that_is_not_there_fails_the_gate_in_words(user) -> None:
    run = started(user, pipeline(user, step("sft"), gate("good", "win_rate > 1", uses={"metrics": "sft.metrics"})))
    succeeds(job(run, "sft"), val_loss=1.0)
    run = go(run)
    assert (
        run.message
        == "'good' failed: There is no figure win_rate. There are: metrics.step, metrics.val_loss, step, val_loss."
    )


def test_a_failed_branch_does_not_stop_the_other(user) -> None:
    made = pipeline(user, step("sft"), step("left", uses=AFTER), step("right", uses=AFTER, settings={"iters": 5}),
                    step("end", uses={"model": "left.model", "data": "inputs.data"}))  # fmt: skip
    run = started(user, made)
    succeeds(job(run, "sft"))
    run = go(run)
    fails(job(run, "left"))
    run = go(run)
    assert run.state == "running" and states(run)["end"] == "skipped" and states(run)["right"] == "running"
    succeeds(job(run, "right"))
    run = go(run)
    assert (run.state, run.message) == ("failed", "'left' failed: It diverged. Lower the rate.")


def test_figures_of_a_step_go_by_its_port(user) -> None:
    made = pipeline(user, step("sft"), step("dpo", uses=AFTER),
                    gate("better", "after.val_loss < before.val_loss",
                         uses={"before": "sft.metrics", "after": "dpo.metrics"}))  # fmt: skip
    run = started(user, made)
    succeeds(job(run, "sft"), val_loss=2.0)
    run = go(run)
    succeeds(job(run, "dpo"), val_loss=1.5)
    assert go(run).state == "succeeded"


def test_a_reward_model_goes_where_one_is_needed(user) -> None:
    pairs = data("pairs", data_format="preference")
    made = pipeline(user, step("judge", settings={"method": "reward_model", "iters": 4}),
                    step("ppo", uses={**USED, "reward_model": "judge.reward_model"},
                         settings={"method": "ppo", "iters": 4}))  # fmt: skip
    run = started(user, made, data=pairs)
    succeeds(job(run, "judge"))
    run = go(run)
    (used,) = job(run, "ppo").inputs.all()
    assert (used.role, str(used.version_id)) == ("reward_model", at(run, "judge").outputs["reward_model"])


def test_numbers_are_filled_in(user) -> None:
    inputs = {"model": {"type": "model"}, "data": {"type": "dataset"}, "n": {"type": "number", "default": 7}}
    made = pipeline(user, step("sft", settings={"iters": "${inputs.n}"}), inputs=inputs)
    assert job(started(user, made), "sft").settings["iters"] == 7
    assert job(started(user, made, n=9), "sft").settings["iters"] == 9


def test_a_second_run_takes_what_is_the_same_and_computes_the_rest(user) -> None:
    base, rows = model(), data()
    made = pipeline(user, step("sft"), step("dpo", uses=AFTER))
    first = started(user, made, model=base, data=rows)
    succeeds(job(first, "sft"))
    first = go(first)
    succeeds(job(first, "dpo"))
    go(first)
    services.change(user, made, services.checked({
        "name": "P", "inputs": {"model": {"type": "model"}, "data": {"type": "dataset"}},
        "steps": [step("sft"), step("dpo", uses=AFTER, settings={"iters": 5})],
    }))  # fmt: skip
    second = started(user, made, model=base, data=rows)
    assert states(second) == {"sft": "succeeded", "dpo": "running"}
    taken = at(second, "sft")
    assert (
        taken.reused == at(first, "sft")
        and taken.why == f"Taken from run #{first.number}: same model, data, settings and engine."
    )
    assert at(second, "dpo").why == f"Since run #{first.number} changed: iters 4 → 5."
    assert Job.objects.count() == 3
    third = started(user, made, model=base, data=data())
    assert states(third) == {"sft": "running", "dpo": "waiting"}, "other rows, other results"


def test_what_is_being_computed_is_waited_for_and_taken(user) -> None:
    made, chosen = pipeline(user, step("sft")), {"model": model(), "data": data()}
    first, second = started(user, made, **chosen), started(user, made, **chosen)
    assert states(second) == {"sft": "waiting"}
    assert at(second, "sft").message == f"Waits: run #{first.number} makes the same in its step 'sft'."
    succeeds(job(first, "sft"))
    services.advance_all()
    assert at(second, "sft").reused == at(first, "sft") and Job.objects.count() == 1


def test_twins_in_one_run_are_computed_once(user) -> None:
    run = started(user, pipeline(user, step("one"), step("other")))
    assert states(run) == {"one": "running", "other": "waiting"}
    succeeds(job(run, "one"))
    run = go(run)
    assert run.state == "succeeded" and at(run, "other").reused == at(run, "one")


def test_nobody_waits_for_a_run_that_is_paused(user) -> None:
    made, chosen = pipeline(user, step("sft")), {"model": model(), "data": data()}
    first = started(user, made, **chosen)
    services.pause(user, first)
    assert states(started(user, made, **chosen)) == {"sft": "running"}
