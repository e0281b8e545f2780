"""Auto-configuration on the road: facts, engine, ladder, API."""

from __future__ import annotations

import uuid
from io import StringIO
from typing import Any, Literal

import pytest
from django.core.management import CommandError, call_command

from mlxplatform.core.access import Role, make_user
from mlxplatform.core.errors import Invalid
from registry.models import ModelVersion, RegisteredModel
from tests.engine import method_data, runs
from tests.fakes import tiny
from tests.training.data_rows import make_version
from tests.training.test_api import Caller, code
from tests.training.test_memory_plans import answer
from training import asks, facts, services
from training.autoconfig import MachineFacts
from training.models import DatasetVersion

pytestmark = pytest.mark.django_db
Chosen = tuple[ModelVersion, DatasetVersion]


@pytest.fixture
def chosen() -> Chosen:
    """A model and data that a real engine can look at."""
    held, _ = RegisteredModel.objects.get_or_create(name="tiny")
    columns = {"kind": "base", "model_type": "llama", "parameters": 100_000, "context_length": 512}
    model = ModelVersion.objects.create(model=held, n=1, path=f"models/{uuid.uuid4()}", **columns)
    tiny.make(model.folder)
    return model, make_version(runs.rows(6))


def ids(chosen: Chosen) -> dict[str, str]:
    return {"model_version_id": str(chosen[0].pk), "dataset_version_id": str(chosen[1].pk)}


def tell(monkeypatch: pytest.MonkeyPatch, backend: Literal["cpu", "cuda"], fits_at: int | None) -> None:
    """Let the engine find that the rung ``fits_at`` is the first that fits; None: none does. 0: all."""
    tried: list[Any] = []

    def run(command: str, config: dict[str, Any], memory: int | None) -> dict[str, Any]:
        if command == "tokens":
            lengths = [[64, 5], [512, 1], [None, 0]]
            return {"statistics": {"tokens": 900, "histogram": lengths, "longest": 400}}
        if command == "fit":
            count = len(config["trainings"])
            tried[:] = [{"fits": i + 1 == fits_at} for i in range(fits_at or count)]
            return {"tried": tried}
        return answer(4 << 30 if fits_at == 0 or (tried and tried[-1]["fits"]) else 2 << 30)

    monkeypatch.setattr(asks, "_run", run)
    # Not by the engine's answer: one of this minute would be kept from test to test.
    monkeypatch.setattr(facts, "of_machine", lambda: MachineFacts(backend, 8, 2 << 30))


def test_a_real_engine_is_asked_and_the_settings_start(chosen: Chosen) -> None:
    call = Caller()
    made = call("POST", "/auto-config", ids(chosen)).json()
    assert (made["method"], made["fits"], made["steps"]) == ("sft", True, [])
    assert made["memory"]["total"] < made["memory"]["limit"]
    assert {reason["setting"] for reason in made["reasons"]} >= {"learning_rate", "adapter.rank", "max_seq_length"}
    assert call("POST", "/jobs", {**ids(chosen), "settings": made["settings"]}).status_code == 201


def test_a_real_plan_for_answers_of_its_own(chosen: Chosen) -> None:
    prompts = make_version([method_data.row("prompts", i) for i in range(6)], data_format="prompts")
    prompts.report = {"answers": {"prompts": 6, "answered": 6}}
    prompts.save()
    made = services.configure(make_user("grace", Role.EDITOR), chosen[0].pk, prompts.pk)
    assert (made.proposal.method, made.fits, made.warnings[1:]) == ("grpo", True, [])
    assert made.settings["method"]["rewards"] == ["exact_answer"]


def test_a_teacher_takes_memory_and_one_that_is_not_named_is_told(chosen: Chosen) -> None:
    user, key = make_user("grace", Role.EDITOR), chosen[0].pk
    without = services.configure(user, key, chosen[1].pk, "gkd")
    made = services.configure(user, key, chosen[1].pk, "gkd", others={"teacher": key, "reward_model": uuid.uuid4()})
    assert "needs a teacher, and none was given" in without.warnings[-1]
    assert made.warnings == without.warnings[:-1]
    assert without.memory and made.memory
    held = {line["name"]: line["bytes"] for line in made.memory["lines"]}
    assert "others" not in {line["name"] for line in without.memory["lines"]}
    assert held["others"] == held["weights"]


def test_a_teacher_that_does_not_exist_is_refused(chosen: Chosen) -> None:
    asked = {**ids(chosen), "method": "gkd", "others": {"teacher": str(uuid.uuid4())}}
    assert code(Caller()("POST", "/auto-config", asked)) == "model.unknown"


def test_what_does_not_fit_is_made_smaller_and_says_how(chosen: Chosen, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(monkeypatch, "cpu", fits_at=2)
    made = services.configure(make_user("grace", Role.EDITOR), *(row.pk for row in chosen), method="sft")
    assert made.fits and len(made.steps) == 2
    assert (made.settings["grad_checkpoint"], made.settings["batch_size"]) == (True, 2)
    assert made.settings["learning_rate"] == 2e-4


def test_a_quantised_version_comes_last(chosen: Chosen, monkeypatch: pytest.MonkeyPatch) -> None:
    user = make_user("grace", Role.EDITOR)
    tell(monkeypatch, "cuda", fits_at=None)
    made = services.configure(user, *(row.pk for row in chosen))
    assert made.fits is False and "Import the model in 4 bits" in made.warnings[-1]
    with pytest.raises(Invalid, match="would need about"):
        services.create_training(user, **ids(chosen), settings=made.settings)
    columns = {"kind": "base", "model_type": "llama", "parameters": 100_100, "quantization": {"bits": 4}}
    packed = ModelVersion.objects.create(model=chosen[0].model, n=2, path=f"models/{uuid.uuid4()}", **columns)
    tiny.make(packed.folder, bits=4)
    made = services.configure(user, *(row.pk for row in chosen))
    assert f"Not even on {packed}" in made.warnings[-1]


def test_what_is_wrong_is_named(chosen: Chosen) -> None:
    call = Caller()
    refused = call("POST", "/auto-config", {**ids(chosen), "method": "magic"})
    assert (refused.status_code, code(refused)) == (422, "method.unknown")
    unfit = call("POST", "/auto-config", {**ids(chosen), "method": "dpo"})
    assert (unfit.status_code, code(unfit)) == (422, "dataset.unfit")
    gone = call("POST", "/auto-config", {**ids(chosen), "model_version_id": str(uuid.uuid4())})
    assert (gone.status_code, code(gone)) == (422, "model.unknown")
    assert Caller("viewer", "read")("POST", "/auto-config", ids(chosen)).status_code == 403


def test_the_command_line_says_the_same(chosen: Chosen, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(monkeypatch, "cpu", fits_at=1)
    make_user("root", Role.ADMIN, superuser=True)
    said = StringIO()
    call_command("autoconfig", "tiny", "support", stdout=said)
    assert "adapter.rank = 8: " in said.getvalue() and "To fit: Gradient checkpointing" in said.getvalue()
    assert "It fits: about 3.00 GiB of 4.00." in said.getvalue()
    with pytest.raises(CommandError, match=r"no registered model 'magic'\. Known are: tiny\."):
        call_command("autoconfig", "magic", "support")
    with pytest.raises(CommandError, match="cannot train on these"):
        call_command("autoconfig", "tiny", "support", "--method", "dpo")
