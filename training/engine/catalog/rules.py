"""Rules: what scores an answer without a model. Used as rewards by PPO and GRPO, and by evaluations.

A rule is written as an object or as one line of text: its name, then settings, quoted as in a shell::

    exact_answer extract=boxed weight=2
    regex pattern='^(yes|no)\\b' ignore_case=on
    json_schema definition='{"type": "object", "required": ["answer"]}'
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, Union

from pydantic import BeforeValidator, Field, field_validator, model_serializer

from training.engine import json_schema
from training.engine.catalog.rows import Catalog, Row, Settings, code_of_its_own, setting

MAX_PATTERN = 1000  # characters
MAX_RULES = 16
#: Counted repeats are written out when a pattern is compiled, one inside the other: their product is bounded.
MAX_REPEATS = 100_000
_REPEAT = re.compile(r"\{(\d+)(?:,\d*)?\}")
Tag = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,39}$")]


class RuleSettings(Settings):
    """Base of a rule's settings. Written down as a line of text."""

    weight: float = setting(
        1.0, "Weight", "Times the rule's value, in the sum of all rules; below 0 it is a penalty.", ge=-1000, le=1000
    )

    @property
    def needs_reference(self) -> bool:
        """Whether the rule compares with a reference answer."""
        return False

    @model_serializer
    def line(self) -> str:
        """The rule as a line of text, defaults left out."""
        words = [self.name]
        for key, field in type(self).model_fields.items():
            value = getattr(self, key)
            if key != "name" and (field.is_required() or value != field.get_default()):
                words.append(f"{key}={shlex.quote(_word(value))}")
        return " ".join(words)

    def __str__(self) -> str:
        return self.line()


class ExactAnswer(RuleSettings):
    """1 if the answer is the reference, else 0."""

    name: Literal["exact_answer"] = "exact_answer"
    extract: Literal["auto", "marked", "boxed", "last_number", "last_line", "all"] = setting(
        "auto",
        "What is compared",
        "Which part of the answer. 'marked': what follows the last ####, as in GSM8K. 'boxed': what the last \\boxed{} "
        "holds. 'last_number', 'last_line', 'all': as they say. 'auto': the first of ####, \\boxed{} that is there, "
        "else the last number if the reference is one, else all.",
        level="adjust",
    )
    numbers: bool = setting(
        True, "Compare as numbers", "1,000 and 1000.0, or 1/2 and 0.5, are equal; signs of money and % do not count."
    )
    ignore_case: bool = setting(True, "Ignore case", "Small and large letters are the same.")
    ignore_punctuation: bool = setting(False, "Ignore punctuation", "Leaves out all that is no letter, digit or space.")

    @property
    def needs_reference(self) -> bool:
        return True


class Regex(RuleSettings):
    """1 if a regular expression is found in the answer, else 0."""

    name: Literal["regex"] = "regex"
    pattern: str = setting(
        ...,
        "Pattern",
        "A regular expression in Python's syntax. A search that takes longer than a second counts as not found.",
        level="adjust",
        min_length=1,
        max_length=MAX_PATTERN,
    )
    whole: bool = setting(False, "Whole answer", "The whole answer must match, not only a part of it.", level="adjust")
    ignore_case: bool = setting(False, "Ignore case", "Small and large letters are the same.")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"this is no regular expression: {error}") from None
        if "\n" in value:
            raise ValueError("the pattern has a line break; write \\n")
        if math.prod(max(1, int(count)) for count in _REPEAT.findall(value)) > MAX_REPEATS:
            raise ValueError(f"the counted repeats, multiplied, are more than {MAX_REPEATS}; use smaller ones")
        return value


class JsonSchema(RuleSettings):
    """1 if the answer is JSON that fits a schema, else 0."""

    name: Literal["json_schema"] = "json_schema"
    definition: dict[str, Any] = setting(
        {},
        "Schema",
        f"JSON Schema with the words {', '.join(sorted(json_schema.WORDS))}. Empty: any JSON.",
        level="adjust",
    )
    fenced: bool = setting(
        True, "Code fence", "JSON may stand in a fence of three backticks, with other text around it."
    )

    @field_validator("definition", mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"this is no JSON: {error}") from None

    @field_validator("definition")
    @classmethod
    def _can_be_checked(cls, value: dict[str, Any]) -> dict[str, Any]:
        if faults := json_schema.faults(value):
            raise ValueError("; ".join(faults))
        return value


class Length(RuleSettings):
    """1 if the answer has a number of tokens within a range; outside it falls to 0."""

    name: Literal["length"] = "length"
    at_least: int = setting(0, "At least", "Fewest tokens.", level="adjust", ge=0, le=1 << 20, unit="tokens")
    at_most: int = setting(256, "At most", "Most tokens.", level="adjust", ge=1, le=1 << 20, unit="tokens")
    soft: int = setting(
        0, "Soft edge", "Over so many tokens beyond the range the value falls to 0.", ge=0, le=1 << 20, unit="tokens"
    )

    @field_validator("at_most")
    @classmethod
    def _a_range(cls, value: int, info: Any) -> int:
        if value < info.data.get("at_least", 0):
            raise ValueError(f"at_most is less than at_least, {info.data['at_least']}")
        return value


class Tags(RuleSettings):
    """1 if the answer has its parts in tags, such as <think>…</think><answer>…</answer>, else 0."""

    name: Literal["format"] = "format"
    tags: tuple[Tag, ...] = setting(
        ("think",),
        "Tags",
        "Each stands there once, in this order, with something in it; in a line as tags=think,answer.",
        level="adjust",
        min_length=1,
        max_length=8,
    )
    outside: Literal["after", "none", "any"] = setting(
        "after",
        "Text outside",
        "Where other text may stand: 'after' the last tag, as an answer after thinking, nowhere ('none'), or anywhere "
        "('any').",
        level="adjust",
    )

    @field_validator("tags", mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @field_validator("tags")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("a tag stands there twice")
        return value


class PythonFunction(RuleSettings):
    """What a function of this machine says, any finite number."""

    name: Literal["python_function"] = "python_function"
    module: str = setting(
        ...,
        "Module",
        "File with the function, in the folder rewards of the data folder. It must be named in MLXP_REWARD_MODULES.",
        level="adjust",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,59}\.py$",
    )
    function: str = setting(
        "reward",
        "Function",
        "Its name. Called with (prompt, answer, reference): a list of messages, a text, a text or None.",
        level="adjust",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,59}$",
    )


RULES = Catalog(
    "rule",
    Row(
        ExactAnswer,
        "Exact answer",
        "1 if the answer is the reference answer, as text or as a number.",
        "training.engine.rules.exact_answer:ExactAnswer",
    ),
    Row(Regex, "Regular expression", "1 if a pattern is found in the answer.", "training.engine.rules.regex:Regex"),
    Row(
        JsonSchema,
        "JSON schema",
        "1 if the answer is JSON that fits a schema.",
        "training.engine.rules.json_answer:JsonAnswer",
    ),
    Row(
        Length,
        "Length",
        "1 within a range of tokens, falling to 0 outside of it.",
        "training.engine.rules.length:Length",
    ),
    Row(Tags, "Format", "1 if the answer has its parts in tags such as <think>.", "training.engine.rules.tags:Tags"),
    Row(
        PythonFunction,
        "Python function",
        "A number from a function in a file of this machine that the operator allows.",
        "training.engine.rules.python_function:PythonFunction",
    ),
)

if TYPE_CHECKING:
    Rule: TypeAlias = RuleSettings
else:

    def _named(value: Any) -> Any:
        """A line or an object as an object whose name is known."""
        value = parsed(value) if isinstance(value, str) else value
        name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
        if name not in RULES:
            known = f"Known are: {', '.join(RULES.names)}."
            raise code_of_its_own("rule.unknown", f"There is no rule '{str(name)[:60]}'.", known)
        return value

    Rule = Annotated[
        Union[tuple(row.settings for row in RULES)],  # noqa: UP007
        Field(discriminator="name"),
        BeforeValidator(_named, json_schema_input_type=str | dict[str, Any]),
    ]


def parsed(line: str) -> dict[str, Any]:
    """The object that ``line`` writes down. Raises ValueError with what is wrong."""
    try:
        name, *words = shlex.split(line) or [""]
    except ValueError as error:
        raise ValueError(f"'{line[:80]}' cannot be read: {error}") from None
    rule: dict[str, Any] = {"name": name}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key in rule:
            raise ValueError(f"'{word[:60]}' is no setting=value that is given once")
        rule[key] = value
    return rule


def names_of(rules: Sequence[RuleSettings]) -> list[str]:
    """A name for each rule: its kind's, with _2, _3 and so on for further ones of a kind."""
    seen: dict[str, int] = {}
    names = []
    for rule in rules:
        seen[rule.name] = seen.get(rule.name, 0) + 1
        names.append(rule.name if seen[rule.name] == 1 else f"{rule.name}_{seen[rule.name]}")
    return names


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple):
        return ",".join(value)
    return f"{value:.10g}" if isinstance(value, float) else str(value)
