"""The form of a new training: texts in, settings or problems out.

pydantic turns the texts into values, so that form, API and command line share every rule and every sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from training.engine.catalog.method_settings import MethodSettings
from training.engine.catalog.methods import METHODS
from training.engine.config.training import TrainSettings, check
from training.engine.errors import ConfigError, Problem
from training.form_fields import (
    BLOCKS,
    BY_EFFORT,
    Block,
    Control,
    FormField,
    all_fields,
    as_text,
    belongs,
    flatten,
    same,
)

TASTE_STEPS = 100


@dataclass(frozen=True, slots=True)
class Effort:
    """A preset of how long to train."""

    name: str
    label: str
    summary: str
    epochs: float
    patience: int

    def settings(self, updates_per_epoch: int | None) -> dict[str, Any]:
        """Values for :data:`BY_EFFORT`; Taste counts updates where an epoch is longer than 100 of them."""
        if self.name == "taste" and (updates_per_epoch or TASTE_STEPS + 1) > TASTE_STEPS:
            return {"iters": TASTE_STEPS, "patience": self.patience}
        return {"epochs": self.epochs, "patience": self.patience}


EFFORTS = {
    effort.name: effort
    for effort in (
        Effort("taste", "Taste", "At most 100 steps. Shows whether data and settings work.", 1, 0),
        Effort("standard", "Standard", "Up to 3 passes over the data; stops when it no longer improves.", 3, 3),
        Effort("long", "Long", "Up to 10 passes, with more patience. For hard tasks and little data.", 10, 5),
    )
}


class SettingsForm:
    """The settings part of the form: texts in, checked settings or problems out.

    ``texts``: what was posted or prefilled. ``updates_per_epoch``: optimizer updates in one pass over
    the chosen data at this batch size, for the presets; None when no data set is chosen.
    """

    def __init__(self, texts: Mapping[str, str], rows: int | None = None) -> None:
        self.texts = {key: text.replace("\r\n", "\n") for key, text in texts.items()}
        self.rows = rows
        self.problems: list[Problem] = []
        self.settings: TrainSettings | None = None
        for path in BLOCKS:
            if self.texts.get(f"{path}.was", self._chosen(path)) != self._chosen(path):
                self.switch(path)

    @property
    def effort(self) -> Effort:
        """The chosen preset; Standard when none is."""
        return EFFORTS.get(self.texts.get("effort", ""), EFFORTS["standard"])

    def raw(self) -> dict[str, Any]:
        """The request as the API would get it: only what differs from the defaults or was typed."""
        raw: dict[str, Any] = {}
        for path in BLOCKS:
            raw[path] = {"name": self._chosen(path)}
            for field in all_fields().get(f"{path}={self._chosen(path)}", ()):
                self._put(raw[path], field, field.path.removeprefix(f"{path}."))
        for field in all_fields()[""]:
            self._put(raw, field, field.path)
        return self._with_effort(raw)

    def _put(self, raw: dict[str, Any], field: FormField, key: str) -> None:
        texts = [self.texts.get(control.name, control.default).strip() for control in field.controls]
        if not any(texts) and field.controls[0].may_be_emptied:
            raw[key] = []
        elif not any(texts) or all(same(t, c.default) for t, c in zip(texts, field.controls, strict=True)):
            return
        elif len(field.controls) > 1:
            raw[key] = texts
        elif field.controls[0].kind == "lines":
            raw[key] = [line for line in (part.strip() for part in texts[0].split("\n")) if line]
        else:
            raw[key] = texts[0]

    def _with_effort(self, raw: dict[str, Any]) -> dict[str, Any]:
        preset = self.effort.settings(self._updates_per_epoch(raw))
        if "epochs" in raw or "iters" in raw:
            preset = {"patience": preset["patience"]}
        return {**preset, **raw}

    def _updates_per_epoch(self, raw: Mapping[str, Any]) -> int | None:
        try:
            per_update = int(raw.get("batch_size", 4)) * int(raw.get("grad_accumulation_steps", 1))
            return -(-self.rows // per_update) if self.rows else None
        except (ValueError, ZeroDivisionError):
            return None

    def _chosen(self, path: str) -> str:
        return self.texts.get(path, "") or BLOCKS[path].names[0]

    def is_valid(self) -> bool:
        """Check all settings; ``settings`` is set, or ``problems`` are."""
        try:
            self.settings = check(TrainSettings, self.raw())
        except ConfigError as error:
            self.problems = error.problems
        return self.settings is not None

    def blocks(self) -> list[Block]:
        """The catalog choices with the fields of what is chosen."""
        return [self.block(path) for path in BLOCKS]

    def block(self, path: str) -> Block:
        """One catalog choice."""
        title = TrainSettings.model_fields[path].title or path
        fields = all_fields().get(f"{path}={self._chosen(path)}", ())
        own = tuple(p for p in self.problems if p.loc in {(path,), (path, "name")})
        away = {f"kept.{row.name}.{path}." for row in BLOCKS[path] if row.name != self._chosen(path)}
        kept = tuple((key, text) for key, text in self.texts.items() if key.startswith(tuple(away)))
        return Block(path, title, self._chosen(path), BLOCKS[path], tuple(self._filled(fields)), own, kept)

    def switch(self, path: str) -> None:
        """Go over from the row that was drawn to the one that is chosen now, and lose nothing that was typed.

        What was typed for the old row is kept under ``kept.<row>.<name>`` and stands there again when the row comes
        back; defaults are not. Fields that both rows have carry their text over, except between methods, where
        the same word means something else.
        """
        before, now = self.texts.get(f"{path}.was", ""), self._chosen(path)
        for control in _controls_of(path, before):
            text = self.texts.pop(control.name, control.default)
            if same(text, control.default) or not (text or control.may_be_emptied):
                self.texts.pop(f"kept.{before}.{control.name}", None)
            else:
                self.texts[f"kept.{before}.{control.name}"] = text
        for control in _controls_of(path, now):
            kept: str | None = self.texts.get(f"kept.{now}.{control.name}")
            if kept is None and path != "method":
                kept = self.texts.get(f"kept.{before}.{control.name}")
            if kept is not None and control.takes(kept):
                self.texts[control.name] = kept
        self.texts[f"{path}.was"] = now

    def method(self) -> MethodSettings | None:
        """The method's settings, if they are right: they say which further models are needed."""
        name = self._chosen("method")
        try:
            kind: Any = METHODS[name].settings if name in METHODS else None
            return check(kind, self.raw()["method"]) if kind else None
        except ConfigError:
            return None

    def fields(self, level: str = "") -> list[FormField]:
        """The settings outside the blocks, of one disclosure level or all."""
        return [f for f in self._filled(all_fields()[""]) if not level or f.level == level]

    def _filled(self, fields: Iterable[FormField]) -> Iterator[FormField]:
        preset = self.effort.settings(self._updates_per_epoch(self.texts))
        for field in fields:
            controls = tuple(replace(c, value=self.texts.get(c.name, c.default)) for c in field.controls)
            mine = tuple(p for p in self.problems if belongs(p, field.path))
            hint = f"{as_text(preset.get(field.path)) or '–'} ({self.effort.label})" if field.path in BY_EFFORT else ""
            yield replace(field, controls=controls, problems=mine, placeholder=hint or "automatic")


def _controls_of(path: str, row: str) -> Iterator[Control]:
    return (control for field in all_fields().get(f"{path}={row}", ()) for control in field.controls)


def effort_of(settings: Mapping[str, Any], rows: int | None) -> str:
    """The preset whose values ``settings`` holds, or an empty name."""
    per_update = max(1, int(settings.get("batch_size", 4)) * int(settings.get("grad_accumulation_steps", 1)))
    own = {key: settings.get(key) for key in BY_EFFORT if settings.get(key) is not None}
    for effort in EFFORTS.values():
        if own == effort.settings(-(-rows // per_update) if rows else None):
            return effort.name
    return ""


def prefilled(settings: Mapping[str, Any], rows: int | None) -> dict[str, str]:
    """The texts that draw the form with the settings of an earlier job."""
    texts = flatten(settings)
    effort = effort_of(settings, rows)
    if effort:
        texts |= {"effort": effort} | dict.fromkeys(BY_EFFORT, "")
    return texts
