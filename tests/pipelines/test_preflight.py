"""What is refused before anything starts: each choice and each step with its place and its sentence."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from django.utils import timezone

from mlxplatform.core.errors import Conflict, Invalid
from mlxplatform.core.models import AuditEvent
from pipelines import services
from pipelines.catalog import TEMPLATES
from pipelines.models import PipelineRun, StepRun
from registry.models import ModelVersion
from tests.pipelines.lives import AFTER, INPUTS, USED, data, gate, model, pipeline, started, step
from training.engine.errors import Problem
from training.models import Job

pytestmark = pytest.mark.django_db


def refused(user: Any, *steps: dict[str, Any], inputs: dict[str, Any] | None = None, **chosen: Any) -> list[Problem]:
    """The problems of a start; nothing may have come of it."""
    made = pipeline(user, *steps, inputs=inputs)
    with pytest.raises(Invalid) as caught:
        services.start(user, made, chosen)
    assert not PipelineRun.objects.exists() and not StepRun.objects.exists() and not Job.objects.exists()
    assert not AuditEvent.objects.filter(action="pipeline.run").exists()
    assert all(problem.message.endswith(".") and problem.hint for problem in caught.value.problems)
    return caught.value.problems


def places(found: list[Problem]) -> list[tuple[tuple[str | int, ...], str]]:
    return [(problem.loc, problem.code) for problem in found]


def test_everything_that_was_not_chosen_is_said_at_once(user) -> None:
    found = refused(user, step("sft"), extra="x", data="")
    assert places(found) == [
        (("inputs", "extra"), "input.unknown"),
        (("inputs", "model"), "input.missing"),
        (("inputs", "data"), "input.missing"),
    ]
    assert found[0].hint == "There are: model, data."


@pytest.mark.parametrize("given", ["x", "../../etc/passwd", 7, [], {}, str(uuid.UUID(int=7))])
def test_what_is_no_version_is_refused(user, given: Any) -> None:
    (found,) = refused(user, step("sft"), model=given, data=str(data().pk))
    assert (found.loc, found.code) == (("inputs", "model"), "input.gone")
    assert found.message == "There is no such model version."


def test_a_version_in_the_trash_is_none(user) -> None:
    base, rows = model(), data()
    base.model.deleted_at = rows.dataset.deleted_at = timezone.now()
    base.model.save()
    rows.dataset.save()
    assert places(refused(user, step("sft"), model=str(base.pk), data=str(rows.pk))) == [
        (("inputs", "model"), "input.gone"),
        (("inputs", "data"), "input.gone"),
    ]


def test_a_model_is_no_data_set_and_the_other_way_round(user) -> None:
    found = refused(user, step("sft"), model=str(data().pk), data=str(model().pk))
    assert [problem.code for problem in found] == ["input.gone", "input.gone"]


def test_data_of_another_form(user) -> None:
    inputs = {**INPUTS, "data": {"type": "dataset", "label": "Conversations", "formats": ["chat", "completion"]}}
    rows = data("raw", data_format="text")
    (found,) = refused(user, step("sft"), inputs=inputs, model=str(model().pk), data=str(rows.pk))
    assert (found.loc, found.code) == (("inputs", "data"), "input.format")
    assert found.message == "raw v1 holds rows of the form 'text'; needed is chat or completion."


def test_a_model_without_a_head_is_no_reward_model(user) -> None:
    inputs = {**INPUTS, "judge": {"type": "reward_model"}}
    ppo = step("ppo", uses={**USED, "reward_model": "inputs.judge"}, settings={"method": "ppo", "iters": 4})
    pairs, base = data(data_format="preference"), model()
    chosen = {"model": str(base.pk), "data": str(pairs.pk), "judge": str(base.pk)}
    (found,) = refused(user, ppo, inputs=inputs, **chosen)
    assert (found.loc, found.code) == (("inputs", "judge"), "input.no_reward_model")
    judge = ModelVersion.objects.create(
        model=base.model, n=9, kind="adapter", base=base, path="models/j", heads=["score"]
    )
    made = pipeline(user, ppo, inputs=inputs)
    assert services.start(user, made, {**chosen, "judge": str(judge.pk)}).state == "running"


NUMBERS: list[Any] = ["many", "nan", "inf", float("nan"), float("inf"), 1e13, -1e13, 10**400, [], {}, "1e400"]


@pytest.mark.parametrize("given", NUMBERS, ids=repr)
def test_what_is_no_number_is_refused(user, given: Any) -> None:
    inputs = {"n": {"type": "number", "label": "Updates", "default": 3}}
    (found,) = refused(user, gate("g", "1 < 2"), inputs=inputs, n=given)
    assert (found.loc, found.code) == (("inputs", "n"), "input.number")
    assert found.message.startswith("'Updates' is no number: ")


@pytest.mark.parametrize(("given", "kept"), [(5, 5), ("5", 5), (5.0, 5), ("0.5", 0.5), ("", 3), (None, 3), (-0.0, 0)])
def test_a_number_is_kept_as_it_is_meant(user, given: Any, kept: float) -> None:
    made = pipeline(user, gate("g", "1 < 2"), inputs={"n": {"type": "number", "default": 3}})
    run = services.start(user, made, {"n": given})
    assert run.inputs == {"n": kept} and isinstance(run.inputs["n"], type(kept))


def test_a_number_without_a_default_has_to_be_chosen(user) -> None:
    (found,) = refused(user, gate("g", "1 < 2"), inputs={"n": {"type": "number"}})
    assert (found.loc, found.code) == (("inputs", "n"), "input.missing")


@pytest.mark.parametrize("number", [0, 0.5, -3])
def test_a_number_that_makes_a_setting_wrong_is_refused_where_it_goes(user, number: float) -> None:
    inputs = {**INPUTS, "n": {"type": "number", "default": 3}}
    chosen = {"model": str(model().pk), "data": str(data().pk), "n": number}
    steps = (step("sft", settings={"iters": "${inputs.n}"}, label="Teach"),
             step("look", "evaluate", uses=USED, settings={"max_tokens": "${inputs.n}"}))  # fmt: skip
    found = refused(user, *steps, inputs=inputs, **chosen)
    assert [problem.loc for problem in found] == [
        ("steps", "sft", "settings", "iters"), ("steps", "look", "settings", "max_tokens"),
    ]  # fmt: skip
    assert found[0].message.startswith("Step 'Teach': iters: ")


def chosen(**columns: Any) -> dict[str, str]:
    return {"model": str(model().pk), "data": str(data(**columns).pk)}


def test_data_that_a_later_method_cannot_read(user) -> None:
    dpo = step("dpo", uses=AFTER, settings={"method": "dpo", "iters": 4})
    (found,) = refused(user, step("sft"), dpo, **chosen())
    assert (found.loc, found.code) == (("steps", "dpo", "uses", "data"), "dataset.unfit")
    assert found.message.startswith("Step 'dpo': rows v1 holds rows of the form ")


def test_data_without_rows(user) -> None:
    (found,) = refused(user, step("sft"), **chosen(rows_train=0))
    assert (found.loc, found.code) == (("steps", "sft", "uses", "data"), "dataset.empty")


def test_an_evaluation_needs_held_out_rows(user) -> None:
    look = step("look", "evaluate", uses=AFTER, settings={"rows": 2})
    (found,) = refused(user, step("sft"), look, **chosen(rows_valid=0))
    assert (found.loc, found.code) == (("steps", "look", "settings", "split"), "evaluation.no_rows")
    baseline = step("look", "evaluate", uses={**AFTER, "baseline": "inputs.model"}, settings={"rows": 2})
    (found,) = refused(user, step("sft"), baseline, **chosen())
    assert (found.loc, found.code) == (("steps", "look", "uses", "baseline"), "evaluation.baseline_alone")


def test_a_reward_model_that_will_have_its_head_by_then_is_fine(user) -> None:
    judge = step("judge", settings={"method": "reward_model", "iters": 4})
    ppo = step("ppo", uses={**USED, "reward_model": "judge.reward_model"}, settings={"method": "ppo", "iters": 4})
    look = step("look", "evaluate", uses={**USED, "model": "ppo.model", "reward_model": "judge.reward_model"})
    run = started(user, pipeline(user, judge, ppo, look), data=data(data_format="preference"))
    assert run.state == "running" and run.steps.count() == 3


def test_rules_of_a_training_need_what_they_compare_with(user) -> None:
    rules = step("sft", settings={"iters": 4, "eval_rules": ["exact_answer"]})
    (found,) = refused(user, rules, **chosen(rows_valid=0))
    assert (found.loc, found.code) == (("steps", "sft", "settings", "eval_rules"), "evaluation.no_prompts")


def test_other_machines_need_the_operators_hostfile(user) -> None:
    (found,) = refused(user, step("sft", settings={"iters": 4, "ranks": 2, "hosts": ["mini"]}), **chosen())
    assert found.loc == ("steps", "sft", "settings", "hosts")


def test_a_sequence_longer_than_the_model_reads(user) -> None:
    base = model(context_length=64)
    (found,) = refused(user, step("sft"), model=str(base.pk), data=str(data().pk))
    assert (found.loc, found.code) == (("steps", "sft", "settings", "max_seq_length"), "config.max_seq_length")


def test_weights_that_cannot_be_trained(user) -> None:
    base = model(quantization={"bits": 4})
    full = step("dpo", uses=AFTER, settings={"iters": 4, "adapter": "full"})
    (found,) = refused(user, step("sft"), full, model=str(base.pk), data=str(data().pk))
    assert (found.loc, found.code) == (("steps", "dpo", "settings", "adapter"), "adapter.needs_unquantised")


def with_tokens(words: str) -> ModelVersion:
    version = model()
    vocabulary = {word: n for n, word in enumerate(words)}
    (version.folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}, "added_tokens": []}))
    (version.folder / "config.json").write_text(json.dumps({"vocab_size": len(words)}))
    return version


def test_a_teacher_with_other_tokens_is_refused_also_when_it_has_yet_to_be_made(user) -> None:
    inputs = {**INPUTS, "student": {"type": "model"}}
    distil = step("distil", uses={"model": "inputs.student", "data": "inputs.data", "teacher": "sft.model"},
                  settings={"method": {"name": "distillation", "top_k": 2}, "iters": 4})  # fmt: skip
    given = {"model": str(with_tokens("abc").pk), "data": str(data().pk)}
    (found,) = refused(user, step("sft"), distil, inputs=inputs, **given, student=str(with_tokens("acb").pk))
    assert (found.loc, found.code) == (("steps", "distil", "uses", "teacher"), "teacher.other_tokenizer")
    made = pipeline(user, step("sft"), distil, inputs=inputs)
    assert services.start(user, made, {**given, "student": str(with_tokens("abc").pk)}).state == "running"


def test_a_pipeline_in_the_trash_is_not_started(user) -> None:
    made = pipeline(user, gate("g", "1 < 2"), inputs={})
    services.delete(user, made)
    made.refresh_from_db()
    with pytest.raises(Conflict) as caught:
        services.start(user, made, {})
    assert caught.value.code == "pipeline.deleted" and not PipelineRun.objects.exists()


def test_a_key_that_is_too_long(user) -> None:
    with pytest.raises(Invalid) as caught:
        services.start(user, pipeline(user, gate("g", "1 < 2"), inputs={}), {}, idempotency_key="k" * 121)
    assert caught.value.code == "idempotency.too_long"


@pytest.mark.parametrize("name", TEMPLATES.names)
def test_a_template_starts_with_fitting_choices(user, name: str) -> None:
    made = services.from_template(user, name)
    assert services.from_template(user, name) == made, "it is made once"
    given: dict[str, str] = {}
    for key, wanted in made.newest.definition.inputs.items():
        if wanted.type == "dataset":
            given[key] = str(data(key, data_format=(wanted.formats or ["chat"])[0]).pk)
        elif wanted.type == "model":
            given[key] = str(with_tokens("".join(map(chr, range(97, 197)))).pk)
    run = services.start(user, made, given)
    assert run.steps.count() == len(made.newest.definition.steps)
    services.advance(run.pk)
    assert run.steps.filter(state="running").exists() and not run.steps.filter(state="failed").exists()
