"""Methods that learn from the model's own answers and their rewards. Names and defaults are TRL's where it has them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from training.engine.catalog.method_settings import SUPERVISED, Group, MethodSettings, Other
from training.engine.catalog.rows import code_of_its_own, setting
from training.engine.catalog.rules import MAX_RULES, Rule

Rules = Annotated[list[Rule], Field(max_length=MAX_RULES)]

_ASKING = tuple(name for name in SUPERVISED if name != "text")
_WEIGHT = "Weight of the reward model's score in the reward; above 0 the training needs one and keeps it in memory."
_RULES = (
    "What scores an answer, one rule in a line, such as exact_answer or length at_most=64 weight=0.5. The reward is "
    "the weighted sum of all."
)
_LINES = ["length at_most=64 weight=0.5"]


class PolicySettings(MethodSettings):
    """What the methods share: prompts, how they are answered, what an answer is worth."""

    reads: ClassVar[tuple[str, ...]] = ("prompts", *_ASKING, "preference", "kto")
    online: ClassVar[bool] = True
    goal: ClassVar[str] = "reward"
    group: ClassVar[Group] = "Reinforcement"
    takes: ClassVar[tuple[Other, ...]] = ("reward_model",)

    rewards: Rules = setting(["exact_answer"], "Rules", _RULES, level="simple", validate_default=True, examples=_LINES)
    reward_model_weight: float = setting(
        0.0, "Reward model", _WEIGHT, level="simple", ge=0, le=1000, validate_default=True
    )
    max_completion_length: int = setting(
        256, "Longest answer", "An answer is cut here.", level="adjust", ge=1, le=1 << 16, unit="tokens"
    )
    temperature: float = setting(
        1.0,
        "Temperature",
        "Of the drawn answers, and of the probabilities that are trained. Below 1 answers differ less.",
        level="adjust",
        gt=0,
        le=10,
    )
    top_p: float = setting(
        1.0,
        "Top p",
        "Draws from the likeliest tokens that hold this probability. Below 1 the answers are not quite the policy's.",
        gt=0,
        le=1,
    )
    top_k: int = setting(0, "Top k", "Draws from so many likeliest tokens; 0: all.", ge=0, le=1 << 20)

    @property
    def needs(self) -> tuple[Other, ...]:
        return ("reward_model",) if self.reward_model_weight else ()

    @field_validator("reward_model_weight")
    @classmethod
    def _has_a_reward(cls, value: float, info: Any) -> float:
        if not value and info.data.get("rewards") == []:
            raise code_of_its_own(
                "reward.missing",
                "There is nothing that rewards an answer: no rule, and the reward model's weight is 0.",
                "Give a rule, or a weight above 0 and a reward model.",
            )
        return value


class Grpo(PolicySettings):
    """Group relative policy optimisation (Shao et al. 2024, arXiv 2402.03300), Dr. GRPO, DAPO and GSPO."""

    name: Literal["grpo"] = "grpo"
    num_generations: int = setting(
        8, "Answers to a prompt", "They are compared with each other.", level="adjust", ge=2, le=1024
    )
    rollout_batch: int = setting(
        4,
        "Prompts of a rollout",
        "Answered together with the weights of that moment. Rollout × answers = micro-batch × accumulation gives one "
        "update for each rollout.",
        level="adjust",
        ge=1,
        le=1 << 16,
        unit="prompts",
    )
    num_iterations: int = setting(1, "Passes", "How often a rollout is trained on.", level="adjust", ge=1, le=64)
    beta: float = setting(
        0.0,
        "Beta",
        "Weight of the KL to the model before the training; 0 needs no reference. 0.04 holds it firmly.",
        level="adjust",
        ge=0,
        le=100,
    )
    epsilon: float = setting(
        0.2, "Clip range", "How far a token's probability may move in one rollout, as a share.", gt=0, lt=1
    )
    epsilon_high: float | None = setting(
        None, "Upper clip range", "Clip-higher of DAPO, 0.28 there; as below if empty.", gt=0, le=100
    )
    loss_type: Literal["dapo", "grpo", "dr_grpo", "bnpo"] = setting(
        "dapo",
        "Loss",
        "How tokens are weighed. 'dapo': all alike. 'grpo': every answer alike, so tokens of a long one count less. "
        "'dr_grpo': by the longest answer, without any bias towards length. 'bnpo' is 'dapo' here.",
        level="adjust",
    )
    importance_sampling_level: Literal["token", "sequence"] = setting(
        "token", "Ratio of", "'token' as in GRPO; 'sequence' as in GSPO, with a clip range of about 0.0003 to 0.0004."
    )
    scale_rewards: Literal["group", "batch", "none"] = setting(
        "group",
        "Scale rewards",
        "By the deviation within a prompt's answers, within all, or not at all, as in Dr. GRPO.",
    )
    mask_truncated_completions: bool = setting(
        False, "Leave out cut answers", "Overlong filtering of DAPO: answers without an end teach nothing."
    )
    filter_groups: bool = setting(
        False,
        "Leave out equal groups",
        "As in DAPO's dynamic sampling: prompts whose answers are all worth the same are not trained on; the next "
        "rollout comes sooner.",
    )

    @field_validator("epsilon_high")
    @classmethod
    def _not_below(cls, value: float | None, info: Any) -> float | None:
        if value is not None and value < info.data.get("epsilon", 0):
            raise ValueError(f"the upper range is less than the lower one, {info.data['epsilon']}")
        return value


class Ppo(PolicySettings):
    """Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347) with a value head and a KL penalty."""

    name: Literal["ppo"] = "ppo"
    rollout_batch: int = setting(
        16,
        "Prompts of a rollout",
        "Answered together, once each, with the weights of that moment.",
        level="adjust",
        ge=1,
        le=1 << 16,
        unit="prompts",
    )
    num_ppo_epochs: int = setting(4, "Passes", "How often a rollout is trained on.", level="adjust", ge=1, le=64)
    rewards: Rules = setting([], "Rules", _RULES, level="simple", validate_default=True, examples=_LINES)
    reward_model_weight: float = setting(
        1.0, "Reward model", _WEIGHT, level="simple", ge=0, le=1000, validate_default=True
    )
    kl_coef: float = setting(
        0.05,
        "KL coefficient",
        "How much each token pays for its distance from the model before the training.",
        level="adjust",
        ge=0,
        le=100,
    )
    kl_estimator: Literal["k1", "k3"] = setting(
        "k1", "KL estimator", "'k1' is right on average; 'k3' has less noise and is never negative."
    )
    adaptive_kl: bool = setting(
        False, "Adaptive KL", "Raises and lowers the coefficient so that the KL stays near its target.", level="adjust"
    )
    kl_target: float = setting(6.0, "KL target", "Of the adaptive coefficient.", gt=0, le=1e6, unit="nats per answer")
    kl_horizon: float = setting(
        10000.0,
        "KL horizon",
        "Answers over which the adaptive coefficient moves; more is slower.",
        ge=1,
        le=1e9,
        unit="answers",
    )
    cliprange: float = setting(
        0.2, "Clip range", "How far a token's probability may move in one rollout, as a share.", gt=0, lt=1
    )
    cliprange_value: float = setting(
        0.2, "Clip range of values", "How far a value may move in one rollout.", gt=0, le=1000
    )
    vf_coef: float = setting(0.1, "Weight of the value loss", "Beside the policy's loss.", level="adjust", ge=0, le=100)
    gamma: float = setting(1.0, "Gamma", "How much a later reward counts, for each token between.", ge=0, le=1)
    lam: float = setting(
        0.95, "Lambda", "1: advantages from rewards alone, with more noise. 0: from the value head alone.", ge=0, le=1
    )
    whiten_advantages: bool = setting(True, "Whiten advantages", "To mean 0 and variance 1 over a rollout.")
    whiten_rewards: bool = setting(False, "Whiten rewards", "To variance 1 over a rollout.")
    missing_eos_penalty: float = setting(
        0.0, "Penalty without an end", "Taken off the reward of an answer that was cut.", ge=0, le=1e6
    )

    @field_validator("adaptive_kl")
    @classmethod
    def _something_to_adapt(cls, value: bool, info: Any) -> bool:
        if value and info.data.get("kl_coef") == 0:
            raise ValueError("a KL coefficient of 0 cannot adapt; start above 0")
        return value
