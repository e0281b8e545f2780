"""A whole configuration proposed: settings with reasons, and smaller ones where they do not fit into memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mlxplatform.core.access import Role, require
from mlxplatform.core.errors import DomainError, Invalid
from registry.models import ModelVersion
from training import asks, autoconfig, facts, ladder, memory_plans, validation
from training.autoconfig import DataFacts, ModelFacts, Proposal
from training.engine.catalog.methods import METHODS
from training.engine.config.training import TrainSettings, check
from training.engine.errors import Problem
from training.models import DatasetVersion
from training.services.queue import find

SAME_SIZE = 0.02  # versions whose numbers of weights differ by less are the same model


@dataclass(frozen=True, slots=True)
class Configured:
    """What is proposed, for a page, the API and the command line."""

    model: ModelVersion
    """The version that was asked about, or a quantised one of it."""
    proposal: Proposal
    settings: dict[str, Any]
    """The proposal's, with what had to be given up."""
    steps: list[str] = field(default_factory=list)
    """What was given up so that it fits, in order."""
    warnings: list[str] = field(default_factory=list)
    memory: dict[str, Any] | None = None
    """The engine's plan; None if it could not be asked."""
    others: Mapping[str, ModelVersion] = field(default_factory=dict)
    """Further models by role, which take memory, too."""

    @property
    def fits(self) -> bool | None:
        """None: not known."""
        return None if self.memory is None else bool(self.memory["fits"])

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "method": self.proposal.method,
            "model_version_id": str(self.model.pk),
            "settings": self.settings,
            "reasons": [{"setting": r.path, "value": r.value, "why": r.why} for r in self.proposal.reasons],
            "steps": self.steps,
            "warnings": self.warnings,
            "fits": self.fits,
            "memory": self.memory,
        }


def configure(
    user: Any,
    model_version_id: Any,
    dataset_version_id: Any,
    method: str | None = None,
    *,
    others: Mapping[str, Any] | None = None,
    measure: bool = False,
) -> Configured:
    """Propose everything for a training. Without ``method`` the data's format decides.

    ``others``: ids of further model versions by role, so that their memory is counted; those that the method has no
    use for are left out. ``measure``: one update is computed, and the plan's error against it is told.
    Nothing is stored.
    Raises Invalid with all problems, TooMuch, AskFailed, Forbidden.
    """
    require(user, Role.EDITOR)
    model: ModelVersion | None = find(ModelVersion, user, model_version_id)
    data: DatasetVersion | None = find(DatasetVersion, user, dataset_version_id)
    problems = validation.model_problems(model, {}) + validation.data_problems(data)
    if method and method not in METHODS:
        known = ", ".join(METHODS.names)
        found = Problem(("method",), "method.unknown", f"There is no method '{method[:40]}'.", f"Known are: {known}.")
        problems.append(found)
    if problems or model is None or data is None:
        raise Invalid.of(problems)
    about, (counted, why) = facts.of_model(model), facts.of_data(data, model)
    machine = facts.of_machine()
    proposal = autoconfig.propose(method or None, about, counted, machine)
    settings = check(TrainSettings, proposal.settings)
    if problems := validation.data_problems(data, settings):
        raise Invalid.of(problems)
    beside, lacking = _beside(user, settings, others or {}, model)
    made = Configured(model, proposal, proposal.settings, others=beside, warnings=lacking)
    made = _fitted(made, settings, data, about, counted)
    if made.fits is False:
        made = _on_quantised(user, made, data, packs=not machine.is_cpu)
    made.warnings[:0] = [*proposal.warnings, *([why] if why else [])]
    return _measured(made, data) if measure else made


def _beside(
    user: Any, settings: TrainSettings, asked: Mapping[str, Any], model: ModelVersion
) -> tuple[dict[str, ModelVersion], list[str]]:
    """The further models that the proposed method works with, and a word for each that is lacking.

    Raises Invalid for one that does not suit.
    """
    needs: tuple[str, ...] = settings.method.needs
    found = {role: find(ModelVersion, user, key) for role, key in asked.items() if key and role in needs}
    problems = validation.other_problems(settings, found, model)
    if unfit := [problem for problem in problems if problem.loc[-1] in found]:
        raise Invalid.of(unfit)
    there = {role: version for role, version in found.items() if version is not None}
    return there, [f"{problem.message} {problem.hint}" for problem in problems]


def _fitted(
    made: Configured, settings: TrainSettings, data: DatasetVersion, about: ModelFacts, counted: DataFacts
) -> Configured:
    """The first of the settings and of the rungs below them that fits; the last one if none does."""
    try:
        memory = memory_plans.ask(settings, made.model, data, others=made.others)
        rungs = [] if memory["fits"] else list(ladder.rungs(settings, about, counted))
        if not rungs:
            return replace(made, memory=memory)
        asked = [memory_plans.question(rung.settings, made.model, data, made.others) for rung in rungs]
        tried = asks.ask("fit", {"trainings": asked}, fresh=memory_plans.FRESH)["tried"]
        last = rungs[len(tried) - 1].settings
        before = settings.model_dump(mode="json")
        changed = {key: value for key, value in last.model_dump(mode="json").items() if value != before[key]}
        return replace(
            made,
            settings={**made.settings, **changed},
            steps=[rung.says for rung in rungs[: len(tried)]],
            memory=memory_plans.ask(last, made.model, data, others=made.others),
        )
    except DomainError as error:
        text = f"Whether it fits into memory is not known: {error.message}"
        return replace(made, warnings=[*made.warnings, text])


def _on_quantised(user: Any, made: Configured, data: DatasetVersion, *, packs: bool) -> Configured:
    """The same on a quantised version of the model, the last thing that is left; or a word that there is none.

    ``packs``: whether packed weights stay packed. A CPU unpacks them, so there nothing is gained.
    """
    whole = made.model.whole
    base = _quantised(user, whole)
    if whole.quantization or not packs:
        return _refused(made, "Choose a smaller model or a machine with more memory.")
    if base is None:
        return _refused(made, "Import the model in 4 bits and ask again: its weights take a quarter.")
    tried = _fitted(
        replace(made, model=base, steps=[], settings=made.proposal.settings),
        check(TrainSettings, made.proposal.settings),
        data,
        facts.of_model(base),
        facts.of_data(data, base)[0],
    )
    if not tried.fits:
        return _refused(made, f"Not even on {base}. Choose a smaller model.")
    return replace(tried, steps=[f"On {base}, whose weights are packed.", *tried.steps])


def _refused(made: Configured, advice: str) -> Configured:
    text = f"It does not fit, whatever is given up. {advice} It is refused unless you force it."
    return replace(made, warnings=[*made.warnings, text])


def _quantised(user: Any, whole: ModelVersion) -> ModelVersion | None:
    """A quantised whole model of the same architecture and size."""
    like = ModelVersion.objects.visible_to(user).filter(
        model__deleted_at=None,
        model_type=whole.model_type,
        parameters__range=(whole.parameters * (1 - SAME_SIZE), whole.parameters * (1 + SAME_SIZE)),
    )
    packed = like.filter(quantization__isnull=False).exclude(kind=ModelVersion.Kind.ADAPTER)
    return packed.order_by("-created_at").first()


def _measured(made: Configured, data: DatasetVersion) -> Configured:
    """The plan beside one real update; a failure is a warning."""
    try:
        settings = check(TrainSettings, made.settings)
        plan = memory_plans.ask(settings, made.model, data, measure=True, others=made.others)
        return replace(made, memory=plan)
    except DomainError as error:
        return replace(made, warnings=[*made.warnings, f"One update could not be measured: {error.message}"])
