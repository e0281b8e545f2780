"""Each kind of step alone: what it works with, what it gives, how it begins and what comes of its job."""

from __future__ import annotations

from typing import Any

import pytest

from mlxplatform.core.access import Role, make_user
from mlxplatform.core.errors import Forbidden, Invalid
from pipelines.catalog import STEP_KINDS
from pipelines.steps.step import Done, Kind, Waits, Work
from registry.models import Alias, ModelVersion
from tests.pipelines.lives import data, model, succeeds
from training.engine.catalog.methods import METHODS
from training.engine.errors import ConfigError
from training.models import Job

pytestmark = pytest.mark.django_db


def work(user: Any, kind: str, settings: dict[str, Any], key: str = "k", **inputs: Any) -> Work:
    return Work(user, "The title", key, STEP_KINDS[kind].whole(settings), inputs)


def begin(user: Any, kind: str, settings: dict[str, Any], **inputs: Any) -> Any:
    return STEP_KINDS[kind].begin(work(user, kind, settings, **inputs))


@pytest.mark.parametrize("kind", STEP_KINDS, ids=STEP_KINDS.names)
def test_every_kind_says_what_it_is(kind: Kind) -> None:
    assert kind.label and kind.text.endswith(".")
    assert kind.settings_schema()["type"] == "object"
    assert all(port.text for port in kind.ports({}).values())
    assert ("no such setting",) in [problem.loc for problem in kind.problems({"no such setting": 1})]
    with pytest.raises(ConfigError):
        kind.whole({"no such setting": 1})


def test_only_what_is_computed_is_taken_again() -> None:
    assert {kind.name for kind in STEP_KINDS if kind.reusable} == {"train", "evaluate"}
    assert {kind.name for kind in STEP_KINDS if kind.takes_figures} == {"gate", "approve"}


@pytest.mark.parametrize("method", METHODS.names)
def test_a_training_takes_and_gives_what_its_method_does(method: str) -> None:
    kind, row = STEP_KINDS["train"], METHODS[method].settings
    ports, gives = kind.ports({"method": method}), kind.gives({"method": {"name": method}})
    assert set(ports) == {"model", "data", *row.takes}
    needed = {name for name, port in ports.items() if port.required}
    assert needed == {"model", "data", *row(name=method).needs}
    assert gives == {"reward_model": "reward_model", "metrics": "metrics"} if method == "reward_model" else {
        "model": "model", "metrics": "metrics",
    }  # fmt: skip


def test_a_training_with_rules_alone_needs_no_reward_model() -> None:
    ports = STEP_KINDS["train"].ports({"method": {"name": "grpo", "rewards": ["length"], "reward_model_weight": 0}})
    assert set(ports) >= {"model", "data"}
    assert STEP_KINDS["train"].ports({"method": {"name": "ppo", "nonsense": 1}})["reward_model"].required is False
    assert set(STEP_KINDS["train"].ports({"method": 7})) == {"model", "data"}


def test_a_training_is_a_job_that_is_made_once(user) -> None:
    asked = work(user, "train", {"iters": 3}, model=model(), data=data())
    one, two = STEP_KINDS["train"].begin(asked), STEP_KINDS["train"].begin(asked)
    assert isinstance(one, Job) and one == two and Job.objects.count() == 1
    assert (one.name, one.kind, one.owner, one.settings["iters"]) == ("The title", "train", user, 3)
    succeeds(one, val_loss=1.5)
    version = ModelVersion.objects.get(job_id=one.pk)
    assert STEP_KINDS["train"].result(one) == {"model": str(version.pk), "metrics": {"step": 4.0, "val_loss": 1.5}}


def test_a_reward_model_is_given_as_one(user) -> None:
    one = begin(user, "train", {"method": "reward_model"}, model=model(), data=data(data_format="preference"))
    succeeds(one)
    assert set(STEP_KINDS["train"].result(one)) == {"reward_model", "metrics"}


def test_a_training_passes_its_further_models_on(user) -> None:
    base = model()
    judge = ModelVersion.objects.create(
        model=base.model, n=2, kind="adapter", base=base, path="models/j", heads=["score"]
    )
    one = begin(user, "train", {"method": "ppo"}, model=base, data=data(data_format="preference"), reward_model=judge)
    assert [(given.role, given.version) for given in one.inputs.all()] == [("reward_model", judge)]


def test_a_training_that_does_not_fit_is_refused_in_words(user) -> None:
    with pytest.raises(Invalid) as caught:
        begin(user, "train", {"method": "dpo"}, model=model(), data=data())
    assert caught.value.code == "dataset.unfit" and not Job.objects.exists()


def test_an_evaluation_gives_its_figures(user) -> None:
    base = model()
    one = begin(user, "evaluate", {"rows": 2}, model=base, data=data())
    assert (one.kind, one.model_version, one.name) == ("evaluate", base, "The title")
    succeeds(one, loss=1.25, perplexity=3.5)
    assert STEP_KINDS["evaluate"].result(one) == {"metrics": {"loss": 1.25, "perplexity": 3.5}}


def test_an_evaluation_compares_by_a_reward_model(user) -> None:
    base = model()
    judge = ModelVersion.objects.create(
        model=base.model, n=2, kind="adapter", base=base, path="models/j", heads=["score"]
    )
    one = begin(user, "evaluate", {"rows": 2}, model=base, data=data(), reward_model=judge, baseline=base)
    assert {given.role: given.version for given in one.inputs.all()} == {"reward_model": judge, "baseline": base}


def test_a_gate_says_every_figure(user) -> None:
    made = begin(user, "gate", {"condition": "loss < 2 and sft.loss > 1"}, metrics={"loss": 1.0}, sft={"loss": 0.5})
    assert isinstance(made, Done) and made.passed is False
    assert made.message == "Not passed: 1 against 2 (loss < 2); 0.5 against 1 (sft.loss > 1)."
    assert made.details == {
        "passed": False,
        "condition": "loss < 2 and sft.loss > 1",
        "comparisons": [
            {"text": "loss < 2", "left": 1.0, "right": 2.0, "holds": True, "says": "1 against 2 (loss < 2)"},
            {"text": "sft.loss > 1", "left": 0.5, "right": 1.0, "holds": False, "says": "0.5 against 1 (sft.loss > 1)"},
        ],
    }
    assert begin(user, "gate", {"condition": "metrics.loss < 2"}, metrics={"loss": 1.0}).passed
    two = begin(user, "gate", {"condition": "x.a < x.b"}, x={"a": 1.0, "b": 2.0})
    assert two.message == "Passed: 1 against 2 (x.a < x.b)."
    missing = begin(user, "gate", {"condition": "a < b and loss < 1"}, metrics={"loss": 1.0})
    assert missing.message == "There is no figure a, b. There are: loss, metrics.loss." and not missing.passed
    assert begin(user, "gate", {"condition": "a < 1"}).message == "There is no figure a. There are: none."


def test_an_approval_waits_with_its_question(user) -> None:
    assert begin(user, "approve", {"question": "Good?"}) == Waits("Good?")
    assert begin(user, "approve", {}) == Waits("Go on?")


def test_a_registration_moves_the_alias_and_passes_the_model_on(user) -> None:
    old, new = model(), model()
    begin(user, "register", {"alias": "champion"}, model=old)
    made = begin(user, "register", {}, model=new)
    assert made == Done(message=f"champion points at {new}.", outputs={"model": str(new.pk)})
    assert Alias.objects.get().version == new


def test_a_viewer_registers_nothing(user) -> None:
    with pytest.raises(Forbidden):
        begin(make_user("look", Role.VIEWER), "register", {}, model=model())
    assert not Alias.objects.exists()


def test_figures_are_finite_numbers() -> None:
    from pipelines.steps.figures import plain

    given = {"loss": 1, "nan": float("nan"), "inf": float("inf"), "text": "1", "flag": True, "none": None}
    assert plain(given) == {"loss": 1.0} and plain(None) == {} and plain([1]) == {}
