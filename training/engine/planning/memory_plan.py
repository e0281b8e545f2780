"""What a training will hold in memory, by arithmetic: no weight is read and nothing is computed.

The peak is what is held all the time plus the largest moment: the loss of a micro-batch or its backward pass, the
update, or an answer to a sample prompt. What blocks keep for the backward pass was fitted to measured peaks
(docs/lab-log.md); what is left of an error is learnt on the machine itself (``calibration.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

When = Literal["always", "step", "loss", "backward", "update", "samples"]
Layout = Literal["flat", "slots", "padded"]

MIB = 1 << 20
PROGRAM = 300 * MIB  # Python, MLX, tokenizer and rows, measured
FLOAT = 4  # bytes of a gradient's number
#: In blocks' worth: temporaries beside all that is kept; what a block takes that is computed again.
PASSING, AGAIN, AGAIN_GPU = 1.0, 2.8, 9.5
KEPT_GPU = 1.65  # a compiled step keeps more than one that runs as it reads
INPUTS_AGAIN = 1.45  # arrays of the hidden size that a block leaves behind when it is computed again
SCORES_AGAIN, SCORES_PASSING = 3, 10  # arrays of attention's scores then: of all rows, and of one row on the way
#: Arrays of a chunk's size that are there at once. A CPU takes an exponential in many small steps.
LOGITS_ARRAYS, LOGITS_ARRAYS_CPU = 3, 9
GRADIENTS_IN_UPDATE = 2.4  # the sums, the sums divided, and what is on the way


@dataclass(frozen=True, slots=True)
class Block:
    """What one block keeps for the backward pass."""

    numbers: int
    """For each token, attention's scores apart."""
    trains: bool
    """Whether it, or a block below it, has something to train: only then is anything kept."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the plan has to know of model, adapter and optimizer. Bytes, unless said otherwise."""

    model_type: str
    weights: int
    """All of the model's own parameters, as they lie in memory on this device."""
    adapters: int
    """Parameters that were added."""
    trained: int
    """Trained numbers."""
    optimizer: int
    number: int
    """Bytes of an activation's number."""
    hidden: int
    vocabulary: int
    heads: int
    """Heads of attention whose scores are held; 0 where a kernel does without them."""
    blocks: tuple[Block, ...]
    cached_numbers: int
    """Keys and values of one token in all blocks, in numbers."""
    chunk: int
    """Numbers of the logits that are made at once; 0: all of them."""
    logits_arrays: int = LOGITS_ARRAYS
    """Arrays of that many numbers that are there at once."""
    others: int = 0
    """Further models that stay in memory: a teacher, a reward model."""
    kept: float = 1.0
    """How much more than :attr:`Block.numbers` blocks keep on this device."""
    again: float = AGAIN
    """Blocks' worth that one takes which is computed again."""


@dataclass(frozen=True, slots=True)
class Work:
    """The largest micro-batch."""

    tokens: int
    """Places on the axis, padding and filling counted."""
    scores: int
    """Numbers of attention's scores for one head."""
    scores_of_row: int
    """Those of the longest row, where rows are computed one by one; else all of them."""

    @classmethod
    def of_rows(cls, lengths: Sequence[int], step: int) -> Work:
        """Rows on one axis, whose attention goes in steps of ``step`` tokens."""
        each = []
        for length in lengths:
            whole, rest = divmod(length, step)
            each.append(step * step * whole * (whole + 1) // 2 + rest * length)
        return cls(sum(lengths), sum(each), max(each))

    @classmethod
    def of_places(cls, rows: int, width: int, tokens: int | None = None) -> Work:
        """``rows`` places of ``width`` each for attention; ``tokens`` on the axis, None: as many."""
        scores = rows * width * width
        return cls(rows * width if tokens is None else tokens, scores, scores)


@dataclass(frozen=True, slots=True)
class Line:
    """One item of the plan."""

    name: str
    bytes: int
    when: When
    text: str


@dataclass(frozen=True, slots=True)
class Calibration:
    """What this machine taught: measured peaks over planned ones, their middle and how far they lie from it."""

    runs: int = 0
    ratio: float = 1.0
    error: float | None = None
    """Share of the changing part; None: not known."""

    @property
    def words(self) -> str:
        if not self.runs:
            return "Not yet measured on this machine."
        runs = f"{self.runs} run{'s' if self.runs > 1 else ''}"
        tail = "" if self.error is None else f", error ± {100 * self.error:.0f} %"
        return f"Calibrated by {runs} on this machine{tail}."


@dataclass(frozen=True, slots=True)
class Plan:
    """Lines and their sum against what there is."""

    lines: tuple[Line, ...]
    limit: int
    calibration: Calibration

    @property
    def base(self) -> int:
        """Held all the time."""
        return self._held("always")

    @property
    def peak(self) -> frozenset[When]:
        """The moments that meet at the peak."""
        loss, backward = self._held("step", "loss"), self._held("step", "backward")
        moments: list[tuple[int, frozenset[When]]] = [
            (loss, frozenset({"step", "loss"})),
            (backward, frozenset({"step", "backward"})),
            (self._held("update"), frozenset({"update"})),
            (self._held("samples"), frozenset({"samples"})),
        ]
        return max(moments, key=lambda moment: moment[0])[1]

    @property
    def changing(self) -> int:
        """The most that comes on top."""
        return self._held(*self.peak)

    def _held(self, *moments: When) -> int:
        return sum(line.bytes for line in self.lines if line.when in moments)

    @property
    def total(self) -> int:
        return self.base + self.changing

    @property
    def fits(self) -> bool:
        return self.total <= self.limit

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the journal and for pages."""
        return {
            "lines": [{**asdict(line), "at_peak": line.when in self.peak | {"always"}} for line in self.lines],
            "total": self.total,
            "limit": self.limit,
            "fits": self.fits,
            "calibration": {**asdict(self.calibration), "words": self.calibration.words},
        }


def make(
    facts: Facts,
    work: Work,
    limit: int,
    *,
    grad_checkpoint: bool,
    accumulates: bool,
    sample_tokens: int = 0,
    on_host: bool = True,
    calibration: Calibration = Calibration(),
) -> Plan:
    """The plan. ``limit``: bytes that may be held. ``accumulates``: gradients of several micro-batches are summed.

    ``sample_tokens``: prompts and answers of the samples together. ``on_host``: the program itself lies in the
    same memory as the arrays, as on a CPU or a Mac.
    """
    gradients = FLOAT * facts.trained
    always = [
        Line("weights", facts.weights, "always", "The model as it lies in memory on this device."),
        Line("others", facts.others, "always", "Models beside it: a teacher, a reward model."),
        Line("adapters", facts.adapters, "always", "The matrices that are added and trained."),
        Line("optimizer", facts.optimizer, "always", "What the optimizer remembers of every trained weight."),
        Line("program", PROGRAM if on_host else 0, "always", "Python, MLX, the tokenizer and the rows."),
    ]
    moments = [
        *_kept(facts, work, grad_checkpoint),
        Line("sums", gradients if accumulates else 0, "step", "Gradients of the update's micro-batches so far."),
        Line("logits", _logits(facts, work), "loss", "Made in chunks at the trained positions."),
        Line("gradients", gradients, "backward", "One number in 32 bits for each trained weight."),
        Line(
            "update", int(GRADIENTS_IN_UPDATE * gradients), "update", "Gradients and their mean, when a step is done."
        ),
    ]
    samples = [
        Line(
            "samples",
            facts.cached_numbers * facts.number * sample_tokens,
            "samples",
            "Keys and values of the answers to sample prompts.",
        )
    ]
    changing = [_scaled(line, calibration.ratio) for line in moments]
    lines = (*always, *changing, *samples)
    return Plan(tuple(line for line in lines if line.bytes), limit, calibration)


def _kept(facts: Facts, work: Work, again: bool) -> list[Line]:
    """Activations of a micro-batch."""
    kept = [block.numbers for block in facts.blocks if block.trains]
    largest, scores = max(kept, default=0), facts.heads * work.scores * facts.number
    each = work.tokens * facts.number
    looks = "How much each token looks at each before it."
    if not again:
        text = f"What {len(kept)} blocks keep of {work.tokens} tokens for the backward pass."
        return [
            Line("activations", int(each * facts.kept * (sum(kept) + PASSING * largest)), "step", text),
            Line("attention", scores * (len(kept) + 1), "step", looks),
        ]
    on_the_way = SCORES_PASSING * facts.heads * work.scores_of_row * facts.number
    inputs = int(each * INPUTS_AGAIN * facts.hidden * len(kept))
    return [
        Line("activations", inputs, "step", f"The inputs of {len(kept)} blocks, for {work.tokens} tokens."),
        Line("recomputed", int(each * facts.again * largest), "backward", "One block's activations, computed again."),
        Line("attention", SCORES_AGAIN * scores + on_the_way, "backward", looks),
    ]


def _logits(facts: Facts, work: Work) -> int:
    numbers = work.tokens * facts.vocabulary
    if facts.chunk:
        # The next chunk is prepared while one is computed.
        numbers = min(numbers, 2 * facts.chunk)
    return facts.logits_arrays * FLOAT * numbers


def _scaled(line: Line, ratio: float) -> Line:
    return Line(line.name, int(line.bytes * ratio), line.when, line.text)
