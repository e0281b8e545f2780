"""Which tokens of a row the loss counts: the one place that decides it, for training and for the eye.

A row's ids are those of its whole text, exactly as stock mlx-lm makes them; the trained part is
found in that text by characters and carried over to the tokens. Padding is no business of a row:
whoever pads leaves pads untrained.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from training.engine.errors import DataError, Problem

TrainOn = Literal["assistant", "last", "all"]
Span = tuple[int, int]  # half-open range of characters
_HEADER = 200  # characters of the longest header of an answer


class Words(Protocol):
    """What is needed of a tokenizer (``tokenizer.Tokenizer``)."""

    eos_ids: frozenset[int]
    eos_id: int | None

    @property
    def has_chat_template(self) -> bool: ...

    def prefix(self) -> list[int]: ...

    def offsets(self, text: str) -> tuple[list[int], list[Span]]: ...

    def render(self, messages: list[dict[str, Any]], *, add_generation_prompt: bool) -> str: ...


@dataclass(frozen=True, slots=True)
class Encoded:
    """A row as tokens. ``trained[i]`` says whether the loss counts the prediction *of* token i.

    ``trained[0]`` is always False, because nothing predicts the first token. ``cut`` tokens
    were left off at the end.
    """

    ids: list[int]
    trained: list[bool]
    cut: int

    @property
    def count(self) -> int:
        """How many tokens are trained."""
        return sum(self.trained)

    @property
    def problem(self) -> Problem | None:
        """data.nothing_trained, if the row teaches nothing."""
        if any(self.trained):
            return None
        why = f"; {self.cut} tokens were cut off" if self.cut else ""
        return Problem(
            (),
            "data.nothing_trained",
            f"No token of the row is trained{why}.",
            "Raise the sequence length or leave the row out.",
        )


def encode(row: dict[str, Any], tokenizer: Words, train_on: TrainOn = "assistant", max_seq_length: int = 0) -> Encoded:
    """``row`` (normal form: messages | prompt, completion | text) as ids and flags.

    ``train_on``: every answer of the assistant, the last answer only, or all tokens; a text is always
    trained whole. At most ``max_seq_length`` tokens are kept, 0: all. Of an answer everything is
    trained that the model has to write at inference: the text and the end-of-turn token, neither
    the header before it nor the line break that the template puts behind.

    Raises ModelError model.no_chat_template, DataError data.template_refused or data.template_rewrites.
    """
    if "messages" in row:
        ids, trained = _chat(row["messages"], tokenizer, train_on)
    elif "prompt" in row and tokenizer.has_chat_template:
        pair = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]
        ids, trained = _chat(pair, tokenizer, train_on)
    elif "prompt" in row:
        start = 0 if train_on == "all" else len(row["prompt"])
        ids, trained = _plain(row["prompt"] + row["completion"], start, tokenizer)
    else:
        ids, trained = _plain(row["text"], 0, tokenizer)
    if trained:
        trained[0] = False
    return shortened(Encoded(ids, trained, 0), max_seq_length)


def answer(row_prompt: list[dict[str, Any]], text: str, tokenizer: Words, max_seq_length: int = 0) -> Encoded:
    """``text`` as the assistant's answer to the turns ``row_prompt``; only the answer is trained.

    One call for every answer of a preference or KTO row, so that all its answers stand behind the same
    prompt. Without a chat template the turns are plain text with the answer right behind it, as in a
    row of prompt and completion. Raises as :func:`encode`.
    """
    if tokenizer.has_chat_template:
        turns = [*row_prompt, {"role": "assistant", "content": text}]
        return encode({"messages": turns}, tokenizer, "last", max_seq_length)
    return encode({"prompt": _joined(row_prompt), "completion": text}, tokenizer, "last", max_seq_length)


def prompt(row_prompt: list[dict[str, Any]], tokenizer: Words) -> list[int]:
    """The ids of ``row_prompt`` up to the place where the model begins to write its answer.

    With the header of the answer (the generation prompt) where there is a chat template, else the plain
    text of the turns behind the family's own first token. Raises DataError data.template_refused.
    """
    if tokenizer.has_chat_template:
        return tokenizer.offsets(tokenizer.render(row_prompt, add_generation_prompt=True))[0]
    return tokenizer.prefix() + tokenizer.offsets(_joined(row_prompt))[0]


def _joined(turns: list[dict[str, Any]]) -> str:
    """The texts of ``turns`` for a model that knows no turns."""
    return "\n\n".join(str(turn["content"]) for turn in turns)


def shortened(whole: Encoded, max_seq_length: int) -> Encoded:
    """``whole`` without what stands behind ``max_seq_length`` tokens; 0 keeps all."""
    keep = max_seq_length or len(whole.ids)
    return Encoded(whole.ids[:keep], whole.trained[:keep], max(0, len(whole.ids) - keep))


def _plain(text: str, start: int, tokenizer: Words) -> tuple[list[int], list[bool]]:
    """The text between the family's own first token, if it has one, and an end token."""
    before = tokenizer.prefix()
    ids, spans = tokenizer.offsets(text)
    trained = [begin >= start for begin, _ in spans]
    ids, trained = before + ids, [start == 0] * len(before) + trained
    if tokenizer.eos_id is not None and (not ids or ids[-1] != tokenizer.eos_id):
        ids.append(tokenizer.eos_id)
        trained.append(True)
    return ids, trained


def _chat(messages: list[dict[str, Any]], tokenizer: Words, train_on: TrainOn) -> tuple[list[int], list[bool]]:
    whole = tokenizer.render(messages, add_generation_prompt=False)
    ids, spans = tokenizer.offsets(whole)
    if train_on == "all":
        return ids, [True] * len(ids)
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    trained = [False] * len(ids)
    begins = [begin for begin, _ in spans]
    for i in answers[-1:] if train_on == "last" else answers:
        start, end = _answer(messages, i, whole, tokenizer)
        first, last = bisect_left(begins, start), bisect_left(begins, end)
        # Behind the end-of-turn token the template may put blanks: generation stops before them.
        mark = next((n for n in range(last - 1, first - 1, -1) if ids[n] in tokenizer.eos_ids), last)
        if mark + 1 < last and not whole[begins[mark + 1] : end].strip():
            last = mark + 1
        trained[first:last] = [True] * (last - first)
    return ids, trained


def _answer(messages: list[dict[str, Any]], i: int, whole: str, tokenizer: Words) -> Span:
    """The characters of ``whole`` that answer ``i`` consists of, its end-of-turn token included."""
    before = tokenizer.render(messages[:i], add_generation_prompt=True)
    after = tokenizer.render(messages[: i + 1], add_generation_prompt=False) if i + 1 < len(messages) else whole
    if whole.startswith(before) and whole.startswith(after):
        return len(before), len(after)
    # Some templates show an answer differently once the conversation goes on (Qwen 3 takes the thoughts
    # out), or open the prompt with a tag that past answers lack. Then the answer's own text is sought
    # where the common beginning ends, and what stood behind it must stand behind it here, too.
    pairs = zip(before, whole, strict=False)
    common = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(before), len(whole)))
    content = str(messages[i]["content"])
    for text in dict.fromkeys((content, content.strip(), content.rpartition("</think>")[2].strip())):
        start = _near(whole, text, common)
        if text and start >= 0 and text in after:
            tail = after[after.rindex(text) + len(text) :].rstrip()
            if whole.startswith(tail, start + len(text)):
                return start, start + len(text) + len(tail)
    raise DataError(
        "data.template_rewrites",
        f"The model's chat template rewrites turn {i + 1}, so it cannot be found again.",
        "Train on the last answer only, or on all tokens, or use another model.",
    )


def _near(whole: str, text: str, place: int) -> int:
    """Where ``text`` begins: at ``place``, a little before it, or behind blanks after it; -1 if nowhere."""
    for start in range(place, max(-1, place - _HEADER), -1):
        if whole.startswith(text, start):
            return start
    blank = len(whole) - len(whole[place:].lstrip())
    return blank if whole.startswith(text, blank) else -1
