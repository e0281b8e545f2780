"""Runs a model's chat template: foreign Jinja code that came with the model folder.

The environment is the one transformers uses (sandboxed, immutable, ``trim_blocks``,
``lstrip_blocks``, ``raise_exception``, ``tojson``, ``strftime_now``, loop controls, the
``generation`` tag), so a template means here what its author tested. On top of it stand limits on
time, loop rounds and size: a sandbox keeps a template away from the machine but does not keep it
from running for ever or from making a text of many gigabytes.
"""

from __future__ import annotations

import datetime
import functools
import json
import re
import time
from collections.abc import Callable, Iterable
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from training.engine.errors import DataError, ModelError

MAX_TEMPLATE = 1 << 20  # characters of the template itself
MAX_OUTPUT = 16 << 20  # characters of any text the template makes, on the way or at the end
MAX_ROUNDS = 2_000_000  # loop rounds, all loops of one rendering together
MAX_SECONDS = 5.0
MAX_NUMBER = 1_000_000  # as argument of a call or a filter: width, count, repetition

_COUNTED, _BOUNDED = "mlxp_counted", "mlxp_bounded"


class _TooMuch(Exception):  # noqa: N818 - a limit, handled here
    """A limit was passed. No TemplateError, so that a template cannot provoke it by itself."""


class ChatTemplate:
    """One compiled template. Not safe for use from several threads at once."""

    def __init__(self, source: str) -> None:
        """Raises ModelError when the template is no valid Jinja."""
        if len(source) > MAX_TEMPLATE:
            raise ModelError("model.chat_template", "The chat template is longer than 1 MiB.", _HINT_TEMPLATE)
        self._environment = _Environment()
        try:
            tree = _Limits().visit(self._environment.parse(source))
            self._template = self._environment.from_string(tree)
        except (TemplateError, RecursionError, SyntaxError, ValueError) as error:
            raise ModelError(
                "model.chat_template", f"The model's chat template cannot be read: {error}.", _HINT_TEMPLATE
            ) from None

    def render(self, messages: list[dict[str, Any]], **variables: Any) -> str:
        """The text of ``messages`` (each ``{"role", "content", ...}``).

        Raises DataError when the template refuses these messages (roles in an order it does not
        know, for instance) and ModelError when it passes a limit.
        """
        self._environment.start()
        pieces: list[str] = []
        length = 0
        try:
            for piece in self._template.generate(messages=messages, **variables):
                length += len(piece)
                if length > MAX_OUTPUT:
                    raise _TooMuch(f"made more than {MAX_OUTPUT >> 20} MiB of text")
                pieces.append(piece)
        except (_TooMuch, MemoryError, RecursionError) as error:
            raise ModelError(
                "model.chat_template_limit", f"The model's chat template {error or 'does not end'}.", _HINT_TEMPLATE
            ) from None
        except Exception as error:  # foreign code may raise anything
            raise DataError(
                "data.chat_template",
                f"The model's chat template refuses these messages: {str(error) or type(error).__name__}.",
                "Check roles and their order, or choose a model whose template allows them.",
            ) from None
        return "".join(pieces)


_HINT_TEMPLATE = "Mend chat_template in tokenizer_config.json, or import the model from another source."


class _Environment(ImmutableSandboxedEnvironment):
    """transformers' environment plus limits; ``start()`` before each rendering."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def __init__(self) -> None:
        # Without the optimizer nothing is computed while compiling, where no limit would hold.
        super().__init__(trim_blocks=True, lstrip_blocks=True, optimized=False, extensions=[_Generation, loopcontrols])
        self.filters["tojson"] = _tojson
        self.filters[_COUNTED] = self._counted
        self.filters[_BOUNDED] = self._bounded
        for name in _WIDENING:
            self.filters[name] = _narrow(self.filters[name])
        del self.globals["lipsum"]
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now
        self.globals["namespace"] = _Namespace
        self.start()

    def start(self) -> None:
        """Begin a rendering: full budget of time and rounds."""
        self._rounds = MAX_ROUNDS
        self._until = time.monotonic() + MAX_SECONDS

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator in "**" and not (_small(left) and _small(right)):
            length = next((len(x) for x in (left, right) if isinstance(x, str | bytes | list | tuple)), 0)
            count = next((x for x in (left, right) if isinstance(x, int)), 0)
            if operator == "**" or length * count > MAX_OUTPUT:
                raise _TooMuch("multiplies beyond all bounds")
        if operator == "%":
            _check_format(left)
        return self._bounded(super().call_binop(context, operator, left, right))

    def call(*args: Any, **kwargs: Any) -> Any:  # as in jinja2: 'self' may be a keyword
        self = args[0]
        callee = getattr(args[2], "__wrapped__", args[2])  # jinja2 wraps str.format
        owner, name = getattr(callee, "__self__", None), getattr(callee, "__name__", "")
        _check_numbers((*args[3:], *kwargs.values()))
        if isinstance(owner, str) and name == "replace":
            _check_replace(owner, *args[3:])
        elif isinstance(owner, str) and name in ("format", "format_map"):
            _check_format(owner)
        return self._bounded(super(_Environment, self).call(*args[1:], **kwargs))

    def _tick(self) -> None:
        self._rounds -= 1
        if self._rounds < 0:
            raise _TooMuch(f"runs more than {MAX_ROUNDS:,} loop rounds")
        if self._rounds % 64 == 0 and time.monotonic() > self._until:
            raise _TooMuch(f"runs longer than {MAX_SECONDS:.0f} seconds")

    def _counted(self, values: Any) -> Any:
        """``values`` of a loop, item by item, each one paid from the budget."""
        if isinstance(values, jinja2.Undefined):
            return values
        if isinstance(values, list | tuple | str | dict | range):
            return _CountedSequence(self, values)
        return (self._pay(value) for value in values)

    def _pay(self, value: Any) -> Any:
        self._tick()
        return value

    def _bounded(self, value: Any) -> Any:
        """``value``, once it was seen to be of a bearable size."""
        self._tick()
        if isinstance(value, str | bytes | list | tuple) and len(value) > MAX_OUTPUT:
            raise _TooMuch(f"made more than {MAX_OUTPUT >> 20} MiB of text")
        return value


class _CountedSequence:
    """A sequence whose iteration is paid for; keeps its length, because ``loop.length`` asks for it."""

    def __init__(self, environment: _Environment, values: Any) -> None:
        self._environment = environment
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Any:
        return map(self._environment._pay, iter(self._values))


class _Limits(NodeTransformer):
    """Puts loops under the round budget, and what can make a long text under the size limit."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - jinja2's naming
        self.generic_visit(node)
        node.iter = _filter(node.iter, _COUNTED)  # type: ignore[arg-type]  # an expression, by the grammar
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filter(node, _BOUNDED)

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if node.node is None:  # a {% filter %} block: its text comes from the frame
            return node
        return _filter(node, _BOUNDED)


# Filters whose numbers say how long their result is; 'replace' multiplies two lengths.
_WIDENING = ("center", "indent", "format", "wordwrap", "batch", "slice", "truncate", "replace")
_WIDE = re.compile(r"\d{5,}|%[-+ #0]*\*|\{[^{}]*\{")


def _narrow(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)  # keeps jinja2's mark that says whether it wants the environment
    def checked(*args: Any, **kwargs: Any) -> Any:
        _check_numbers((*args, *kwargs.values()))
        if function.__name__ == "do_replace":
            _check_replace(*args[1:4])
        elif function.__name__ == "do_format":
            _check_format(args[0])
        return function(*args, **kwargs)

    return checked


def _check_numbers(values: Iterable[Any]) -> None:
    for value in values:
        if isinstance(value, int) and abs(value) > MAX_NUMBER:
            raise _TooMuch(f"asks for {value} repetitions or places")


def _check_format(pattern: Any) -> None:
    """Refuses format strings with a huge or computed width."""
    if isinstance(pattern, str) and _WIDE.search(pattern):
        raise _TooMuch("formats to a huge width")


def _check_replace(text: Any, old: Any = "", new: Any = "", *_: Any) -> None:
    if len(str(text)) + str(text).count(str(old)) * len(str(new)) > MAX_OUTPUT:
        raise _TooMuch(f"made more than {MAX_OUTPUT >> 20} MiB of text")


def _filter(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _small(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 1000)


class _Generation(Extension):
    """``{% generation %}…{% endgeneration %}`` marks the assistant's text; here it only passes through."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Namespace(Namespace):
    """jinja2's namespace without names that begin with an underscore (the way to Python's internals)."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # 'self' may be an attribute's name
        values = dict(*args[1:], **kwargs)
        for name in values:
            _no_underscore(name)
        Namespace.__init__(args[0], values)

    def __setitem__(self, name: str, value: Any) -> None:
        _no_underscore(name)
        super().__setitem__(name, value)


def _no_underscore(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"'{name}' may not be an attribute of a namespace")


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    # jinja2's own filter escapes HTML characters, which would change what the model reads.
    if indent is not None and indent > 16:
        raise SecurityError("an indent above 16")
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.datetime.now().strftime(pattern)
