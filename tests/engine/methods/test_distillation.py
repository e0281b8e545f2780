"""Distillation in the loop: the teacher in memory or written down, and teachers that are refused."""

from __future__ import annotations

import json
import shutil
import weakref
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.optimizers as mo
import pytest

from tests.engine import method_data, runs
from tests.engine.methods.test_gates import Ready
from tests.fakes import tiny
from training.engine.errors import Exit
from training.engine.learning.lender import Lender
from training.engine.loop.steps import Steps
from training.engine.rows.layouts import Slots
from training.engine.run.journal import Event
from training.engine.tuning import fuse


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("teacher"), seed=7)


@pytest.fixture
def asked(tiny_llama: Path, teacher: Path, tmp_path: Path) -> dict[str, Any]:
    """A request for three steps, with a held-out row."""
    data = method_data.data(tmp_path / "data", "distillation", train=6, valid=2)
    request = runs.request(tiny_llama, data, iters=3, learning_rate=1e-2, steps_per_eval=3)
    return request | {"others": {"teacher": {"model": str(teacher)}}, "kernel_cache": str(tmp_path / "cache/kernels")}


def curve(root: Path, asked: dict[str, Any], **method: Any) -> list[float]:
    assert runs.run(root, {**asked, "method": {"name": "distillation", **method}}) == Exit.FINISHED
    return list(runs.points(root).values())


@pytest.mark.parametrize("kind", ["forward_kl", "reverse_kl", "jsd"])
def test_all_tokens_written_down_train_like_the_teacher_in_memory(
    kind: str, asked: dict[str, Any], tmp_path: Path
) -> None:
    settings = {"divergence": kind, "temperature": 2.0, "alpha": 0.2}
    vocabulary = tiny.tokenizer(tmp_path / "words")
    one = curve(tmp_path / "one", asked, top_k=0, **settings)
    other = curve(tmp_path / "other", asked, top_k=vocabulary, **settings)
    assert one == pytest.approx(other, rel=1e-4)


def test_the_parts_of_the_loss_are_curves(asked: dict[str, Any], tmp_path: Path) -> None:
    curve(tmp_path / "run", asked, alpha=0.25, temperature=2.0)
    loss, apart, nats = (
        runs.points(tmp_path / "run", name)[3] for name in ("train_loss", "train_divergence", "train_cross_entropy")
    )
    assert loss == pytest.approx(0.75 * 4 * apart + 0.25 * nats, rel=1e-5)
    values = [e.fields["values"] for e in runs.events(tmp_path / "run") if e.event == "evaluated"][-1]
    assert {"val_loss", "val_divergence", "val_cross_entropy"} <= values.keys()


def test_the_teacher_is_read_once_for_all_trainings_on_the_same_rows(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent: list[str] = []
    stock = Lender.lend

    def lend(self: Lender, name: Any) -> fuse.Placed:
        lent.append(name)
        return stock(self, name)

    monkeypatch.setattr(Lender, "lend", lend)
    curve(tmp_path / "one", asked)
    curve(tmp_path / "two", asked, divergence="jsd", alpha=0.5)
    assert lent == ["teacher"]
    curve(tmp_path / "three", asked, temperature=2.0)
    assert lent == ["teacher", "teacher"]


def test_a_teacher_that_was_written_down_leaves_memory(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[Any]] = []
    stock = fuse.load_place

    def load(*args: Any) -> fuse.Placed:
        placed = stock(*args)
        held.append(weakref.ref(placed.loaded.model))
        return placed

    monkeypatch.setattr("training.engine.learning.lender.load_place", load)
    alive: list[bool] = []

    def look(event: Event) -> None:
        if event.event == "metrics":
            alive.append(held[0]() is not None)

    runs.run(tmp_path / "run", {**asked, "method": {"name": "distillation"}}, echo=look)
    assert alive == [False] * 3


def refused(root: Path, asked: dict[str, Any]) -> tuple[str, str]:
    assert runs.run(root, asked) == Exit.CONFIG
    word = runs.last(root).fields
    assert not runs.points(root)
    return word["code"], word["message"]


def test_a_teacher_with_other_tokens_is_refused(asked: dict[str, Any], teacher: Path, tmp_path: Path) -> None:
    foreign = shutil.copytree(teacher, tmp_path / "foreign")
    words = json.loads((foreign / "tokenizer.json").read_text())
    vocabulary = words["model"]["vocab"]
    vocabulary["the"], vocabulary["er"] = vocabulary.pop("er"), vocabulary.pop("the", 0) or 1
    words["model"]["vocab"] = dict(sorted(vocabulary.items(), key=lambda pair: pair[1]))
    (foreign / "tokenizer.json").write_text(json.dumps(words))
    asked = {**asked, "method": "distillation", "others": {"teacher": {"model": str(foreign)}}}
    code, message = refused(tmp_path / "run", asked)
    assert code == "teacher.other_tokenizer"
    assert "'er'" in message


def test_more_tokens_than_the_teacher_has_are_refused(asked: dict[str, Any], tmp_path: Path) -> None:
    code, message = refused(tmp_path / "run", {**asked, "method": {"name": "distillation", "top_k": 5000}})
    assert code == "teacher.top_k"
    assert "5000" in message


def test_without_a_teacher_it_is_refused(asked: dict[str, Any], tmp_path: Path) -> None:
    assert refused(tmp_path / "run", {**asked, "method": "distillation", "others": {}})[0] == "teacher.missing"


@pytest.mark.parametrize("top_k", [0, 8])
def test_a_teacher_with_more_rows_in_its_head_teaches_the_common_ones(
    top_k: int, asked: dict[str, Any], teacher: Path, tmp_path: Path
) -> None:
    wide = shutil.copytree(teacher, tmp_path / "wide")
    weights = mx.load(str(wide / "model.safetensors"))
    assert isinstance(weights, dict)
    table = weights["model.embed_tokens.weight"]
    weights["model.embed_tokens.weight"] = mx.concatenate([table, 9 * mx.ones((6, table.shape[1]))])
    mx.save_safetensors(str(wide / "model.safetensors"), weights, {"format": "mlx"})
    about = json.loads((wide / "config.json").read_text())
    (wide / "config.json").write_text(json.dumps({**about, "vocab_size": about["vocab_size"] + 6}))
    plain = curve(tmp_path / "plain", asked, top_k=top_k)
    other = {**asked, "others": {"teacher": {"model": str(wide)}}}
    assert curve(tmp_path / "wide run", other, top_k=top_k) == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize("method", [{"top_k": 0}, {"top_k": 8, "temperature": 2.0, "alpha": 0.3}], ids=str)
def test_compiled_as_on_a_gpu_it_is_the_same(method: dict[str, Any], tiny_llama: Path, tmp_path: Path) -> None:
    def losses(*, compiled: bool) -> list[float]:
        ready = Ready(tmp_path / f"compiled {compiled}", "distillation", tiny_llama, **method)
        optimizer = mo.SGD(0.1)
        optimizer.init(ready.model.trainable_parameters())
        steps = Steps(ready.model, ready.method, optimizer, longest=1.0, seam=None, compiled=compiled)
        batch, found = Slots(9, None).lay(ready.rows.rows[:3]), []
        for _ in range(2):
            sums, gradients = steps.micro_batch(batch, None)
            found.append(sums["loss"])
            steps.update(gradients, batch.tokens, 0.1)
        return [*found, steps.terms(batch)["loss"]]

    mx.enable_compile()
    try:
        made = losses(compiled=True)
    finally:
        mx.disable_compile()
    assert made == pytest.approx(losses(compiled=False), rel=1e-5)
    assert made[0] != made[2]
