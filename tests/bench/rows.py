"""The rows of the comparisons. A new variant of ours is one line here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Trainer = Literal["ours", "mlx_lm_lora_command", "mlx_lm_lora_package", "mlx_lm_lora_pairs", "torch_peft"]
Given = Literal["nothing", "blas", "everything"]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: who trains, with what."""

    name: str
    """What ``ROWS=`` selects it by."""
    label: str
    trainer: Trainer = "ours"
    """``ours`` is the engine, anything else a driver in tests/bench/peers."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The engine's own settings."""
    work: Mapping[str, Any] = field(default_factory=dict)
    """Changes to the work: another batch size, full fine-tuning, fewer steps."""
    on: Literal["plain", "4bit", "short", "pairs", "prompts"] = "plain"
    """Which of the bench's works: with the model in 4 bit, a few short rows, pairs of answers, bare prompts."""
    given: Given = "blas"
    """What a peer's process gets of the environment that our engine starts itself in."""
    rounds: int = 0
    """In how many of the rounds it runs; 0: in all."""


#: The peer that everything is compared with, in each table.
CPU_BASE, CUDA_BASE = "mlx-lm", "mlx-lm-16"

CPU_ROWS = (
    Row("mlx-lm", "mlx-lm (`mlx_lm.lora`)", "mlx_lm_lora_command"),
    Row("ours", "ours"),
    Row("ours-cached", "ours, cached lower activations", settings={"cache_activations": True}),
    Row("ours-checkpoint", "ours, gradient checkpointing", settings={"grad_checkpoint": True}),
    Row(
        "ours-distillation",
        "ours, distillation, the teacher's 64 likeliest tokens cached",
        settings={"method": {"name": "distillation", "top_k": 64}},
    ),
    Row(
        "mlx-lm-memory",
        "mlx-lm with our engine's memory settings, too",
        "mlx_lm_lora_command",
        given="everything",
        rounds=1,
    ),
    Row("mlx-lm-lora", "mlx-lm-lora (`train_sft`)", "mlx_lm_lora_package", rounds=1),
    Row("mlx-lm-short", "mlx-lm, 4 short rows", "mlx_lm_lora_command", on="short", rounds=1),
    Row(
        "mlx-lm-stock",
        "mlx-lm as pip installs it (no fast BLAS), 4 short rows",
        "mlx_lm_lora_command",
        on="short",
        given="nothing",
        rounds=1,
    ),
)

CUDA_ROWS = (
    Row("mlx-lm-4", "mlx-lm, LoRA, batch 4", "mlx_lm_lora_command", work={"batch_size": 4}),
    Row("mlx-lm-16", "mlx-lm, LoRA, batch 16", "mlx_lm_lora_command"),
    Row("mlx-lm-qlora", "mlx-lm, QLoRA 4-bit, batch 4", "mlx_lm_lora_command", work={"batch_size": 4}, on="4bit"),
    Row("peft-4", "PyTorch + PEFT, LoRA, batch 4", "torch_peft", work={"batch_size": 4}),
    Row("peft-16", "PyTorch + PEFT, LoRA, batch 16", "torch_peft"),
    Row("lora", "ours, LoRA, 16,384 tokens a batch", settings={"batch_tokens": 16384}),
    Row(
        "lora-checkpoint",
        "ours, LoRA, 16,384 tokens a batch, gradient checkpointing",
        settings={"batch_tokens": 16384, "grad_checkpoint": True},
    ),
    Row(
        "lora-24gb",
        "ours, LoRA, 8,192 tokens a batch, gradient checkpointing",
        settings={"batch_tokens": 8192, "grad_checkpoint": True},
    ),
    Row(
        "full",
        "ours, full fine-tuning, 16,384 tokens a batch",
        settings={"batch_tokens": 16384},
        work={"fine_tune": "full"},
    ),
    Row("qlora", "ours, QLoRA 4-bit, 16,384 tokens a batch", settings={"batch_tokens": 16384}, on="4bit"),
)


#: The rules of the online rows reward short answers: cheap, so that the shares are those of the method.
_ONLINE = {
    "rewards": ["length at_most=16 soft=32"],
    "reward_model_weight": 0.0,
    "max_completion_length": 48,
}
_POLICY = {"batch_size": 8, "max_seq_length": 256}

METHOD_ROWS = (
    Row("lora-dpo", "mlx-lm-lora (`train_dpo`)", "mlx_lm_lora_pairs", work={"method": "dpo"}, on="pairs"),
    Row("dpo", "ours, DPO", work={"method": "dpo"}, on="pairs"),
    Row("lora-orpo", "mlx-lm-lora (`train_orpo`)", "mlx_lm_lora_pairs", work={"method": "orpo"}, on="pairs"),
    Row("orpo", "ours, ORPO", work={"method": "orpo"}, on="pairs"),
    Row("sft", "ours, SFT"),
    Row(
        "distillation",
        "ours, distillation, the teacher's 64 likeliest tokens cached",
        settings={"method": {"name": "distillation", "top_k": 64}},
    ),
    Row(
        "ppo",
        "ours, PPO, 16 prompts, 4 passes",
        settings={"method": {"name": "ppo", "rollout_batch": 16, **_ONLINE}, **_POLICY},
        work={"iters": 16},
        on="prompts",
    ),
    Row(
        "grpo",
        "ours, GRPO, 4 prompts with 4 answers, 1 pass",
        settings={
            "method": {"name": "grpo", "rollout_batch": 4, "num_generations": 4, **_ONLINE},
            "grad_accumulation_steps": 2,
            **_POLICY,
        },
        work={"iters": 4},
        on="prompts",
    ),
)


def select(rows: tuple[Row, ...], names: str) -> tuple[Row, ...]:
    """The rows named in ``names``, with commas between; all if it is empty. Raises SystemExit for a wrong name."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    known = {row.name: row for row in rows}
    wrong = [name for name in wanted if name not in known]
    if wrong:
        raise SystemExit(f"There is no row {', '.join(wrong)}. Known are: {', '.join(known)}.")
    return tuple(row for row in rows if row.name in wanted) if wanted else rows
