"""The shape of a catalog row and of the settings it carries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

Level = Literal["simple", "adjust", "expert"]


class Settings(BaseModel):
    """Base of every block of settings: unknown keys are errors, values are fixed once made."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=False)

    name: str


def setting(default: Any, label: str, help: str, *, level: Level = "expert", unit: str = "", **rules: Any) -> Any:  # noqa: A002
    """A field with the words a form shows beside it.

    ``level`` says at which disclosure level it appears; ``rules`` are pydantic's (``ge``, ``lt``, …).
    """
    extra: dict[str, Any] = {"level": level, "unit": unit}
    return Field(default, title=label, description=help, json_schema_extra=extra, **rules)


def code_of_its_own(code: str, message: str, hint: str) -> Exception:
    """What a validator raises so that its fault has the ``code``, with a dot in it, and no general one."""
    # pydantic fills in what stands in braces, and a fault may name anything.
    return PydanticCustomError(code, "{message}", {"message": message, "hint": hint})


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that can be asked for."""

    settings: type[Settings]
    label: str
    summary: str
    implementation: str
    """Dotted path ``package.module:attribute`` of the workshop code."""

    @property
    def name(self) -> str:
        """The word that stands in configurations and in the database."""
        return str(self.settings.model_fields["name"].default)

    def load(self) -> Any:
        """The implementation. Only the engine's process may call this: it imports mlx."""
        module, _, attribute = self.implementation.partition(":")
        return getattr(import_module(module), attribute)


class Named(Protocol):
    """Anything that stands in a table under its name."""

    @property
    def name(self) -> str: ...


NamedT = TypeVar("NamedT", bound=Named)


class Table(Generic[NamedT]):
    """An ordered table of rows, found by name."""

    def __init__(self, kind: str, *rows: NamedT) -> None:
        self.kind = kind
        self._rows = {row.name: row for row in rows}
        if len(self._rows) != len(rows):
            raise ValueError(f"two rows of the {kind} catalog have the same name")

    def __getitem__(self, name: str) -> NamedT:
        return self._rows[name]

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __iter__(self) -> Iterator[NamedT]:
        return iter(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def names(self) -> list[str]:
        """All names, in the order a form shows them."""
        return list(self._rows)


class Catalog(Table[Row]):
    """A table of things that can be asked for."""
