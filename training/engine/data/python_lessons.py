"""Pairs, judged answers and checkable questions, made by rule from Python's own documentation.

The material is that of ``python_docs``; nothing is invented. A worse answer is a real one spoilt in a
way that has a name, so that what a model has learnt from it can be told. How each form is made, in a
sentence for people: ``imports.DOCS_FORMS``. Same Python version and seed, same rows.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.engine.data import python_docs
from training.engine.data.containers import Record
from training.engine.data.python_docs import VERSION, Doc
from training.engine.data.sources import Part
from training.engine.report import Reporter

#: By how much the documented answer is better than one spoilt in this way.
MARGINS = {"other": 3.0, "broken": 2.0, "bare": 1.0}
_WAYS = ("other", "broken", "other", "bare")  # half of the worse answers are as long and as well formed as good ones
Row = dict[str, Any]


def rows(
    form: str, limit: int, valid_share: float, test_share: float, *, seed: int, say: Reporter | None = None
) -> Iterator[tuple[Part, Record]]:
    """At most ``limit`` rows of ``form`` (``chat``, ``preference``, ``kto``, ``prompts``).

    No package is in two splits, nor is its text in a worse answer of another split. Raises DataError
    data.no_stdlib when this Python comes without sources.
    """
    if form == "chat":
        yield from python_docs.rows(limit, valid_share, test_share, seed, say)
        return
    found = python_docs.everything()
    chosen = python_docs.spread(python_docs.collect(found), limit)
    if say:
        say.phase("read", len(chosen), len(chosen), f"docstrings of Python {VERSION}")
    splits = python_docs.assign(chosen, valid_share, test_share, seed)
    made = questions(chosen, found) if form == "prompts" else answers(form, chosen, splits)
    for number, (doc, row) in enumerate(zip(chosen, made, strict=True), 1):
        yield Part(Path("python"), f"python {VERSION}", splits[doc.package], 0), Record(number, row)


def answers(form: str, docs: list[Doc], splits: dict[str, str]) -> Iterator[Row]:
    """A row of pairs (``preference``) or of one judged answer (``kto``) for each of ``docs``."""
    packages, sides = defaultdict(list), defaultdict(list)
    for doc in docs:
        packages[doc.package].append(doc)
        sides[splits[doc.package]].append(doc)
    for doc in docs:
        near = packages[doc.package] if len(packages[doc.package]) > 1 else sides[splits[doc.package]]
        way, text = worse(doc, near)
        prompt = [{"role": "user", "content": doc.question}]
        if form == "preference":
            yield {"prompt": prompt, "chosen": doc.answer, "rejected": text, "margin": MARGINS[way]}
        else:
            good = _draw(doc, "label") % 2 == 0
            yield {"prompt": prompt, "completion": doc.answer if good else text, "label": good}


def worse(doc: Doc, near: list[Doc]) -> tuple[str, str]:
    """A way to spoil the answer about ``doc``, and the spoilt answer; ``near`` may hold ``doc`` itself."""
    others = [other for other in near if other != doc]
    way = _WAYS[_draw(doc, "way") % len(_WAYS)]
    if way == "other" and others:
        return way, others[_draw(doc, "other") % len(others)].answer
    if way == "bare":
        return way, doc.summary
    words = doc.summary.split()
    return "broken", doc.opening + " ".join(words[: (len(words) + 1) // 2])


def questions(docs: list[Doc], found: list[Doc]) -> Iterator[Row]:
    """A question with one short right answer for each of ``docs``; ``found``: all names there are."""
    places = Counter(name for _, name in {(doc.module, doc.name) for doc in found})
    for doc in docs:
        asked = [
            (f"Is `{doc.full}` of Python a function, a class or an exception? Answer with this one word.", doc.kind)
        ]
        if places[doc.name] == 1 and doc.module != "builtins":
            ask = (
                f"Which module of Python's standard library defines `{doc.name}`? Answer with the module's name alone."
            )
            asked.append((ask, doc.module))
        if doc.parameters:
            ask = f"What is the first parameter of Python's `{doc.full}` called? Answer with its name alone."
            asked.append((ask, doc.parameters[0]))
        question, answer = asked[_draw(doc, "question") % len(asked)]
        yield {"prompt": [{"role": "user", "content": question}], "answer": answer}


def _draw(doc: Doc, purpose: str) -> int:
    """A number by the name alone, so that a larger limit changes no row."""
    return int.from_bytes(hashlib.sha256(f"{purpose}:{doc.module}.{doc.name}".encode()).digest()[:4])
