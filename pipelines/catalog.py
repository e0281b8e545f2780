"""Kinds of steps and templates. A new kind is a file in ``steps/`` and a row here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.steps.approve import Approve
from pipelines.steps.evaluate import Evaluate
from pipelines.steps.gate import Gate
from pipelines.steps.register import Register
from pipelines.steps.step import Kind
from pipelines.steps.train import Train
from training.engine.catalog.rows import Table

RECIPES = Path(__file__).parent / "recipes"

STEP_KINDS: Table[Kind] = Table("step kind", Train(), Evaluate(), Gate(), Approve(), Register())


@dataclass(frozen=True, slots=True)
class Template:
    """A pipeline that is ready to run with a few choices; its steps stand in ``recipes/NAME.yaml``."""

    name: str
    label: str
    text: str
    """What it is good for, in a sentence."""

    @property
    def path(self) -> Path:
        return RECIPES / f"{self.name}.yaml"


TEMPLATES: Table[Template] = Table(
    "template",
    Template(
        "chatbot",
        "Chatbot",
        "Teaches a model to answer your way, then to prefer the better of two answers. A person has the last word.",
    ),
    Template(
        "efficient_llm",
        "Efficient LLM",
        "A small model learns from a large one, then from your own examples.",
    ),
    Template(
        "aligned_model",
        "Aligned model",
        "Teaches, aligns by a reward model, and hands what was learnt to a smaller model.",
    ),
    Template(
        "research",
        "Research",
        "PPO and DPO side by side from one start, measured on the same rows; the better one goes on.",
    ),
    Template(
        "domain",
        "New domain",
        "Reads raw text first, then learns to answer questions about it.",
    ),
)
