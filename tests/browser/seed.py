"""Rows and files as a month of work leaves them, so that pages can be looked at and tested full.

``python -m tests.browser.seed`` fills the data folder of ``MLXP_HOME`` (refused when it holds jobs) and prints a
sign-in link. Times and values follow from a fixed seed.
"""

from __future__ import annotations

import json
import math
import os
import random
import uuid
from datetime import timedelta
from typing import Any

import django
from django.utils import timezone

CHAT = [
    ("What does `shutil.copytree` do?", "Recursively copy a directory tree and return the destination directory."),
    ("What does `bisect.insort` do?", "Insert item x in list a, and keep it sorted assuming a is sorted."),
    ("What does `textwrap.dedent` do?", "Remove any common leading whitespace from every line in text."),
]

BEFORE = "This function is a function of the module that does the thing. " * 2


def fill(extra: int = 0, report_every: int = 20) -> dict[str, Any]:
    """Jobs in every state, and ``extra`` finished ones; returns the interesting rows by name.

    ``report_every``: steps between two points of the curves; 1 looks best and takes longest.
    """
    from mlxplatform.core.access import Role, make_user
    from training.models import DeviceSlot

    admin = make_user("ada", Role.ADMIN, superuser=True)
    viewer = make_user("vera", Role.VIEWER)
    model, other = _models()
    data, support = _data()
    DeviceSlot.objects.get_or_create(name="device:0", defaults={"resource": "device"})
    made: dict[str, Any] = {"admin": admin, "viewer": viewer, "model": model, "data": data}
    make = _Maker(admin, model, data, report_every)
    for n in range(extra):
        make.job(f"nightly · python docs · {n + 1}", "succeeded", hours=50 + n, steps=200, points=0)
    made["succeeded"] = make.job("smollm2 · python docs · 1", "succeeded", hours=30, steps=360)
    make.job("support-bot, first try", "stopped", hours=26, steps=400, upto=170, data=support)
    made["failed"] = make.job("support-bot, rank 64", "failed", hours=20, steps=300, upto=40, data=support)
    make.job("support-bot, rate 3e-3", "failed", hours=19, steps=300, upto=52, data=support, reason="diverged.nan")
    make.job("qwen on tickets", "paused", hours=9, steps=900, upto=420, model=other, data=support)
    make.job("smollm2 · python docs · 2", "succeeded", hours=3, steps=360)
    made["running"] = make.job("smollm2 · python docs, longer", "running", hours=0.4, steps=3000, upto=1240)
    made["queued"] = make.job("smollm2 · support · 4", "queued", hours=0.1, steps=0, data=support)
    make.job("qwen · support · 5", "queued", hours=0.05, steps=0, model=other, data=support)
    return made


def _models() -> tuple[Any, Any]:
    from registry.models import ModelVersion, RegisteredModel

    def make(name: str, weights: int, bits: int | None) -> Any:
        row = RegisteredModel.objects.create(name=name)
        path = f"models/{uuid.uuid4()}"
        quantization = {"bits": bits, "group_size": 32} if bits else None
        version = ModelVersion.objects.create(
            model=row,
            n=1,
            kind="base",
            path=path,
            model_type="llama",
            parameters=weights,
            quantization=quantization,
            context_length=2048,
            bytes=weights * (bits or 16) // 8,
            license="apache-2.0",
        )
        version.folder.mkdir(parents=True)
        about = {
            "hidden_size": 576,
            "num_hidden_layers": 30,
            "intermediate_size": 1536,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
        }
        (version.folder / "config.json").write_text(json.dumps(about))
        return version

    return make("SmolLM2-135M-Instruct", 134_515_008, 4), make("Qwen3-0.6B", 596_049_920, None)


def _data() -> tuple[Any, Any]:
    from training.models import Dataset, DatasetVersion

    def make(name: str, train: int, valid: int) -> Any:
        row = Dataset.objects.create(name=name)
        return DatasetVersion.objects.create(
            dataset=row,
            n=1,
            sha256=uuid.uuid4().hex * 2,
            data_format="chat",
            rows_train=train,
            rows_valid=valid,
            rows_test=30,
            bytes=300_000,
        )

    return make("Python docs", 480, 60), make("Support tickets", 2140, 110)


class _Maker:
    """Makes jobs one after the other, each with curves, samples, checkpoints and a log that fit together."""

    def __init__(self, owner: Any, model: Any, data: Any, report_every: int) -> None:
        self.rng = random.Random(7)
        self.owner, self.model, self.data, self.report_every = owner, model, data, report_every
        self.number = 0

    def job(
        self,
        name: str,
        state: str,
        *,
        hours: float,
        steps: int,
        upto: int | None = None,
        model: Any = None,
        data: Any = None,
        reason: str = "memory",
        points: int = 1,
    ) -> Any:
        from training.engine.config.training import TrainSettings
        from training.models import Job

        self.number += 1
        began = timezone.now() - timedelta(hours=hours)
        done = upto if upto is not None else steps
        ended = began + timedelta(seconds=1.1 * done) if state not in {"running", "queued"} else None
        settings = TrainSettings(epochs=3, patience=3, steps_per_report=self.report_every).model_dump(mode="json")
        job = Job.objects.create(
            number=self.number,
            name=name,
            owner=self.owner,
            state=state,
            model_version=model or self.model,
            dataset_version=data or self.data,
            settings=settings,
            step=done,
            total_steps=steps,
            progress=done / steps if steps else 0,
            phase="train" if steps else "",
            created_at=began,
            queued_at=began,
            started_at=began if steps else None,
            ended_at=ended,
            **(_failed(reason) if state == "failed" else {}),
        )
        job.record_move("", state)
        self._live(job, began, ended, points)
        return job

    def _live(self, job: Any, began: Any, ended: Any, points: int) -> None:
        """Attempt, slot and results of a job, as far as it came."""
        from training.models import DeviceSlot

        running = job.state == "running"
        if job.total_steps:
            self._attempt(job, began, ended)
        if running:
            DeviceSlot.objects.filter(name="device:0").update(job=job, fence=1, taken_at=began)
        if job.total_steps and points:
            since = timezone.now() - timedelta(seconds=1.1 * job.step) if running else began
            self._results(job, job.step, since.timestamp())

    def _attempt(self, job: Any, began: Any, ended: Any) -> None:
        from training.models import Attempt

        attempt = Attempt.objects.create(
            job=job,
            n=1,
            fence=1,
            state="running" if job.state == "running" else "succeeded",
            step=job.step,
            started_at=began,
            ended_at=ended,
            backend={"backend": "cpu", "blas": "OpenBLAS 0.3.34", "mlx": "0.32.4", "deterministic": True},
        )
        attempt.folder.prepare(1)
        attempt.folder.stdout.write_text("".join(_log(job.step, job.state)))

    def _values(self, step: int, loss: float) -> dict[str, float]:
        """What an engine reports of one step."""
        return {
            "train_loss": loss,
            "learning_rate": 1e-4 * min(1, (step + 1) / 20),
            "grad_norm": abs(self.rng.gauss(0.9, 0.2)),
            "tokens_per_second": self.rng.gauss(612, 30),
            "memory_gb": 1.31,
            "peak_memory_gb": 1.92,
            "epoch": step / 120,
            "trained_tokens": step * 164.0,
            "step_seconds": 1.1,
        }

    def _results(self, job: Any, done: int, began: float) -> None:
        from training.models import Checkpoint, Sample
        from training.series import Curves, Point, rescore

        curves, every = Curves.of(job.pk), max(1, job.total_steps // 10)
        for step in range(done + 1):
            loss = 1.35 + 1.5 * math.exp(-step / 120) + self.rng.gauss(0, 0.09)
            values = self._values(step, loss)
            if step % every == 0:
                values["val_loss"] = 1.42 + 1.43 * math.exp(-step / 140)
            for name, value in values.items():
                if name == "val_loss" or (step and step % self.report_every == 0):
                    curves.accept(Point(name, step, value, began + 1.1 * step))
        curves.save()
        evaluations = range(0, done + 1, every)
        Sample.objects.bulk_create(
            Sample(
                job=job,
                step=step,
                index=index,
                prompt=prompt,
                text=reference if step > done / 2 else BEFORE,
                reference=reference,
            )
            for step in evaluations
            for index, (prompt, reference) in enumerate(CHAT)
        )
        Checkpoint.objects.bulk_create(
            Checkpoint(
                job=job,
                attempt=1,
                step=step,
                path=f"checkpoints/{step:07d}",
                bytes=29_400_000,
                sha256="0" * 64,
                val_loss=1.42 + 1.43 * math.exp(-step / 140),
            )
            for step in evaluations
            if step
        )
        rescore(job.pk)


def _failed(reason: str) -> dict[str, Any]:
    if reason == "memory":
        message = "The machine ran out of memory and the training was ended by the system."
        hint = "Try a smaller micro-batch, shorter sequences, gradient checkpointing or a smaller model."
    else:
        message, hint = "The loss became NaN at step 52.", "Lower the learning rate and start again."
    return {"reason": reason, "message": message, "hint": hint}


def _log(done: int, state: str) -> list[str]:
    lines = ["mlx 0.32.4 on cpu, 2 threads, OpenBLAS 0.3.34\n", "loaded model in 1.9 s\n"]
    lines += [f"step {step} train_loss {1.35 + 1.5 * math.exp(-step / 120):.4f}\n" for step in range(1, done + 1)]
    return lines + (["Killed\n"] if state == "failed" else [])


def main() -> None:
    """Fill the data folder and print a link that signs the admin in."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlxplatform.settings")
    django.setup()
    from mlxplatform.core.models import OneTimeLink
    from training.models import Job

    if Job.objects.exists():
        raise SystemExit("This data folder holds jobs already. Set MLXP_HOME to an empty folder.")
    made = fill(report_every=1)
    secret = OneTimeLink.issue(OneTimeLink.Purpose.SIGN_IN, made["admin"])
    print(f"/sign-in/{secret}/")
    for name in ("running", "failed", "succeeded", "queued"):
        print(name, f"/jobs/{made[name].pk}/")


if __name__ == "__main__":
    main()
