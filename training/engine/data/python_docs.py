"""Questions and answers made from the docstrings of this machine's Python standard library.

Real text that every machine has: "What does `shutil.copytree` do?" and its summary. Sources are read
with ``ast``, so no module runs; only a short list of modules written in C, harmless to import, is
asked by ``inspect``. Same Python version, same rows.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import platform
import re
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.engine.data.containers import Record
from training.engine.data.sources import Part
from training.engine.errors import DataError
from training.engine.report import Reporter

VERSION = platform.python_version()
_SHORTEST, _LONG, _LONGEST = 20, 200, 400  # characters of a summary; beyond _LONG only whole sentences before it
# No lesson, no public interface, or gone from newer versions.
_PASSED_OVER = frozenset(
    {"antigravity", "distutils", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "test", "tests", "this", "turtledemo"}
)
_IN_C = (
    *("array", "atexit", "binascii", "bisect", "builtins", "cmath", "collections", "datetime", "errno", "fcntl"),
    *("functools", "gc", "heapq", "itertools", "json", "marshal", "math", "operator", "os", "pickle", "pwd", "random"),
    *("re", "resource", "select", "signal", "socket", "statistics", "struct", "sys", "threading", "time"),
    *("unicodedata", "zlib"),
)
_QUESTIONS = (
    "What does `{name}` do?",
    "What is `{name}` for?",
    "Explain `{name}` in one sentence.",
    "Tell me what `{name}` is in Python.",
    "When would I use `{name}`?",
)


@dataclass(frozen=True, slots=True)
class Doc:
    """One documented name of the standard library."""

    module: str
    name: str
    kind: str
    """``function``, ``class`` or ``exception``."""
    summary: str
    """"" where the docstring has no usable one."""
    parameters: tuple[str, ...] = ()
    """Names of a function's parameters in their order, as far as they can be read."""

    @property
    def package(self) -> str:
        """The top of the module's name: ``xml`` of ``xml.dom.minidom``. Splits keep packages together."""
        return self.module.partition(".")[0]

    @property
    def full(self) -> str:
        """The name with its module, as one would write it."""
        return self.name if self.module == "builtins" else f"{self.module}.{self.name}"

    @property
    def question(self) -> str:
        """One of a few ways to ask for it; always the same one for a name."""
        pick = int.from_bytes(hashlib.sha256(self.full.encode()).digest()[:4]) % len(_QUESTIONS)
        return _QUESTIONS[pick].format(name=self.full)

    @property
    def opening(self) -> str:
        """How an answer begins: what it is and where, and the word that the summary stands behind."""
        kind = f"an {self.kind}" if self.kind == "exception" else f"a {self.kind}"
        return f"`{self.full}` is {kind} of the Python module `{self.module}`.\n\nSummary: "

    @property
    def answer(self) -> str:
        """The documented answer. Its frame is always the same, so that a small model can learn it."""
        use = f"Import it with `from {self.module} import {self.name}`."
        if self.module == "builtins":
            use = "It is always there, without an import."
        return f"{self.opening}{self.summary}\n\n{use}"

    @property
    def row(self) -> dict[str, list[dict[str, str]]]:
        """The chat row."""
        return {"messages": [{"role": "user", "content": self.question}, {"role": "assistant", "content": self.answer}]}


def rows(
    limit: int, valid_share: float, test_share: float, seed: int, say: Reporter | None = None
) -> Iterator[tuple[Part, Record]]:
    """At most ``limit`` rows, spread evenly over the packages; no package is in two splits.

    Raises DataError data.no_stdlib when this Python comes without sources.
    """
    chosen = spread(collect(), limit)
    if say:
        say.phase("read", len(chosen), len(chosen), f"docstrings of Python {VERSION}")
    splits = assign(chosen, valid_share, test_share, seed)
    for number, doc in enumerate(chosen, 1):
        split = splits[doc.package]
        yield Part(Path("python"), f"python {VERSION}", split, 0), Record(number, doc.row)


def collect(found: list[Doc] | None = None) -> list[Doc]:
    """All documented public functions and classes of ``found`` (:func:`everything`), each summary once.

    Sorted by module and name. Raises DataError data.no_stdlib when this Python comes without sources.
    """
    kept: dict[tuple[str, str], Doc] = {}
    names, summaries = set(), set()
    for doc in sorted(
        everything() if found is None else found, key=lambda doc: (doc.module.count("."), doc.module, doc.name)
    ):
        # posixpath and ntpath document the same functions: such doubles would leak between splits.
        if doc.summary and doc.summary.lower() not in summaries and (doc.module, doc.name) not in names:
            kept[doc.module, doc.name] = doc
            names.add((doc.module, doc.name))
            summaries.add(doc.summary.lower())
    return sorted(kept.values(), key=lambda doc: (doc.module, doc.name))


def everything() -> list[Doc]:
    """All public functions and classes of the standard library, documented or not, also in several places.

    Raises DataError data.no_stdlib.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    found = [doc for path, module in _modules(root) for doc in _in_source(path, module)]
    for module in _IN_C:
        found.extend(_in_module(module))
    if not any(doc.summary for doc in found):
        raise DataError(
            "data.no_stdlib",
            f"The sources of Python's standard library are not in {root}.",
            "Install them, or import a data set of your own.",
        )
    return found


def spread(docs: list[Doc], limit: int) -> list[Doc]:
    """``limit`` of ``docs``: one of each package in turn, so that no big package fills the set."""
    groups: dict[str, list[Doc]] = defaultdict(list)
    for doc in docs:
        groups[doc.package].append(doc)
    for group in groups.values():
        group.sort(key=lambda doc: hashlib.sha256(f"{doc.module}.{doc.name}".encode()).digest())
    turns = [(turn, package) for package, group in groups.items() for turn in range(len(group))]
    picked = [groups[package][turn] for turn, package in sorted(turns)[:limit]]
    return sorted(picked, key=lambda doc: (doc.module, doc.name))


def assign(docs: list[Doc], valid_share: float, test_share: float, seed: int) -> dict[str, str]:
    """Package to split: packages in an order drawn by ``seed`` fill test and valid up to their shares."""
    sizes: dict[str, int] = defaultdict(int)
    for doc in docs:
        sizes[doc.package] += 1
    order = sorted(sizes, key=lambda package: hashlib.sha256(f"{seed}:{package}".encode()).digest())
    splits = dict.fromkeys(order, "train")
    for split, share in (("test", test_share), ("valid", valid_share)):
        want = round(share * len(docs))
        for package in order:
            if want > 0 and splits[package] == "train" and sizes[package] <= max(want, 1):
                splits[package] = split
                want -= sizes[package]
    return splits


def clean(docstring: str | None) -> str:
    """The first paragraph as one plain line that ends with a full stop; "" if there is no usable one."""
    text = " ".join(_first_paragraph(inspect.cleandoc(docstring or "")).split())
    text = re.sub(r":[a-z:]+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")
    if not _SHORTEST <= len(text) <= _LONGEST or not text[0].isalpha() or not text.isascii() or not text.isprintable():
        return ""
    if re.search(r">>>|https?:|::|\.\.\.|XXX|TODO|--|__|[<>|]", text) or text.endswith((":", ",")):
        return ""
    text = text[0].upper() + text[1:]
    if len(text) > _LONG and ". " in text[:_LONG]:
        text = text[: text.rindex(". ", 0, _LONG) + 1]
    return text if text[-1] in ".!?" else text + "."


def _first_paragraph(text: str) -> str:
    """The first paragraph behind the signatures with which docstrings of functions in C begin."""
    while signature := re.match(r"[\w.]+\(", text):
        end, depth = signature.end(), 1
        while depth and end < len(text):
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        returned = re.match(r"\s*(->|=)\s*", text[end:])
        if not returned and text[end : end + 1] != "\n":
            break  # a sentence that only begins like a call
        if returned and text[end + returned.end() : end + returned.end() + 1] == "(":
            text = "tuple" + text[end + returned.end() :]  # what is returned may go over several lines, too
        else:
            text = text[end:].partition("\n")[2].lstrip()
    return text.split("\n\n")[0]


def _modules(root: Path) -> Iterator[tuple[Path, str]]:
    """Public modules of the standard library that have sources here."""
    for top in sorted(sys.stdlib_module_names):
        if top.startswith("_") or top in _PASSED_OVER:
            continue
        if (root / f"{top}.py").is_file():
            yield root / f"{top}.py", top
        for path in sorted((root / top).rglob("*.py")) if (root / top / "__init__.py").is_file() else ():
            parts = path.relative_to(root).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            if not any(part.startswith("_") or part in _PASSED_OVER for part in parts):
                yield path, ".".join(parts)


def _in_source(path: Path, module: str) -> Iterator[Doc]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # templates and data files that only look like Python
        return
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("_"):
            # What comes out of a private module, often one in C, belongs to the public one; undocumented here.
            yield from (Doc(module, alias.name, "", "") for alias in node.names)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            is_class = isinstance(node, ast.ClassDef)
            taken = () if isinstance(node, ast.ClassDef) else (*node.args.posonlyargs, *node.args.args)
            parameters = tuple(parameter.arg for parameter in taken)
            yield Doc(module, node.name, _kind(node.name, is_class), clean(ast.get_docstring(node)), parameters)


def _in_module(module: str) -> Iterator[Doc]:
    loaded = importlib.import_module(module)
    for name in sorted(vars(loaded)):
        value = vars(loaded)[name]
        is_class = inspect.isclass(value)
        if name.startswith("_") or not (is_class or inspect.isbuiltin(value)):
            continue
        if value.__name__ != name or (is_class and value.__module__ not in (module, "builtins", "_" + module)):
            continue
        if not (is_class and value.__module__ == "builtins" and module != "builtins"):
            yield Doc(module, name, _kind(name, is_class), clean(value.__doc__), () if is_class else _signature(value))


def _signature(function: Callable[..., Any]) -> tuple[str, ...]:
    try:
        return tuple(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # some functions in C do not tell
        return ()


def _kind(name: str, is_class: bool) -> str:
    if not is_class:
        return "function"
    return "exception" if name.endswith(("Error", "Exception", "Warning")) else "class"
