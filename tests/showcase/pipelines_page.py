"""Writes docs/showcase-pipelines.md out of what the runs' rows tell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench import page as bench_page

if TYPE_CHECKING:
    from pipelines.models import PipelineRun, StepRun

PAGE = Path(__file__).resolve().parents[2] / "docs" / "showcase-pipelines.md"
INTRODUCTION = """# Showcase of pipelines

Four templates, run end to end by the worker and written down by the runs themselves. Each training stage is very short:
it shows that the stages hand over to each other, not how far they can go. Approvals were given by the program."""
#: Before and after, by what the figures of a training hold.
PAIRS = (("first_val_reward", "val_reward"), ("first_val_loss", "val_loss"))
HASH = 12  # digits of a sha256


def markdown(runs: Sequence[PipelineRun], seconds: float, updates: int) -> str:
    """The whole page."""
    parts = [
        INTRODUCTION,
        bench_page.heading("make showcase-pipelines"),
        f"SmolLM2-135M-Instruct, {updates} updates per training stage, data sets of Python's own documentation; "
        "the small model is every other layer of it. *Hand-over* is the sha256 of the weights that flow on.",
        *map(_section, runs),
        f"All of it took {seconds / 60:.0f} minutes. `make showcase-pipelines` runs it again and writes this page.",
    ]
    return "\n\n".join(parts) + "\n"


def _section(run: PipelineRun) -> str:
    head = "| step | kind | state | before → after | time | hand-over | why |"
    lines = [_line(step) for step in run.steps.select_related("job")]
    seconds = (run.ended_at - run.created_at).total_seconds() if run.ended_at else 0.0
    title = f"## {run.version.pipeline.name}: {run.state} in {seconds:.0f} s"
    return "\n".join([title, "", head, "|---" * 7 + "|", *lines])


def _line(step: StepRun) -> str:
    seconds = (step.ended_at - step.started_at).total_seconds() if step.ended_at and step.started_at else 0.0
    cells = [
        step.name,
        step.kind,
        step.state + (" (reused)" if step.reused_id else ""),
        _change(step.outputs.get("metrics", {})),
        f"{seconds:.0f} s",
        _hash(step),
        (step.why or step.message).replace("|", "/"),
    ]
    return "| " + " | ".join(cells) + " |"


def _change(figures: dict[str, Any]) -> str:
    for before, after in PAIRS:
        if before in figures and after in figures:
            return f"`{after}` {figures[before]:.3g} → {figures[after]:.3g}"
    return ", ".join(f"`{name}` {figures[name]:.3g}" for name in ("loss", "reward") if name in figures)


def _hash(step: StepRun) -> str:
    from registry.models import ModelVersion

    made = step.outputs.get("model") or step.outputs.get("reward_model")
    version = ModelVersion.objects.filter(pk=made).first() if made and step.kind == "train" else None
    weights = version.files.get("adapters.safetensors", "") if version else ""
    return f"`{weights[:HASH]}`" if weights else ""
