"""Training methods."""

from __future__ import annotations

from training.engine.catalog.distillation_methods import Distillation, Gkd
from training.engine.catalog.policy_methods import Grpo, Ppo
from training.engine.catalog.preference_methods import Cpo, Dpo, Kto, Orpo, RewardModel, SimPo
from training.engine.catalog.rows import Catalog, Row
from training.engine.catalog.supervised_methods import Cpt, Sft

METHODS = Catalog(
    "method",
    Row(
        Sft,
        "Supervised fine-tuning",
        "Teaches by example: the model learns to give the answers in your data.",
        "training.engine.methods.sft:Sft",
    ),
    Row(
        Cpt,
        "Continued pre-training",
        "Reads on: the model learns a language or a field from plain text, however long.",
        "training.engine.methods.cpt:Cpt",
    ),
    Row(
        Distillation,
        "Distillation",
        "Learns from a larger model, the teacher: from all it might have said, not from one answer alone.",
        "training.engine.methods.distillation:Distillation",
    ),
    Row(
        Gkd,
        "On-policy distillation",
        "The student answers by itself and learns what the teacher would have said at each of its words.",
        "training.engine.methods.gkd:Gkd",
    ),
    Row(
        Dpo,
        "DPO",
        "Learns from pairs: a better and a worse answer to the same question. Start from a fine-tuned model.",
        "training.engine.methods.dpo:Dpo",
    ),
    Row(
        Kto,
        "KTO",
        "Learns from single answers that are marked as good or bad.",
        "training.engine.methods.kto:Kto",
    ),
    Row(
        Orpo,
        "ORPO",
        "Learns from pairs and imitates the better answer at the same time. Starts from a base model.",
        "training.engine.methods.orpo:Orpo",
    ),
    Row(
        SimPo,
        "SimPO",
        "Learns from pairs without a reference; long answers have no advantage.",
        "training.engine.methods.simpo:SimPo",
    ),
    Row(
        Cpo,
        "CPO",
        "Learns from pairs without a reference, and imitates the better answer.",
        "training.engine.methods.cpo:Cpo",
    ),
    Row(
        RewardModel,
        "Reward model",
        "Learns to score answers from pairs. PPO, GRPO and evaluations use the score.",
        "training.engine.methods.reward_model:RewardModel",
    ),
    Row(
        Grpo,
        "GRPO",
        "Writes several answers to each prompt and learns from those that earn more than the others, by rules or a "
        "reward model.",
        "training.engine.methods.grpo:Grpo",
    ),
    Row(
        Ppo,
        "PPO",
        "Writes answers and learns which of their tokens led to a reward, with a value head; held near the start.",
        "training.engine.methods.ppo:Ppo",
    ),
)
