"""A teacher beside a training: asked for when it is needed, refused when it speaks of other tokens."""

from __future__ import annotations

import mlx.core as mx
from mlx import nn

from training.engine.catalog.method_settings import Other
from training.engine.errors import ConfigError, ModelError, Problem
from training.engine.folders import vocabularies
from training.engine.learning.method import Method, Terms
from training.engine.learning.notes import Desk
from training.engine.losses import teacher_loss
from training.engine.losses.teacher_loss import Aim
from training.engine.models import heads
from training.engine.models.heads import Head
from training.engine.rows import layouts, segments
from training.engine.rows.layouts import Batch

ROLE: Other = "teacher"
IDS, LOG_PROBS = "teacher_ids", "teacher_log_probs"
"""Names of a batch's arrays that hold what the teacher has told beforehand."""


class Teacher:
    """The lent model. Raises ConfigError ``teacher.missing``, ``teacher.other_tokenizer``, ``teacher.top_k``."""

    def __init__(self, desk: Desk, student: int, top_k: int = 0) -> None:
        """``student``: the student's number of logits. Reads no weight yet."""
        self._desk = desk
        self._head: Head | None = None
        folder = desk.lender.place(ROLE).model
        found = [self._tokens_differ(), vocabularies.beyond(top_k, folder)]
        if problems := [problem for problem in found if problem is not None]:
            raise ConfigError.of(problems)
        self.vocabulary = min(student, vocabularies.size(folder) or student)
        """Tokens that both have logits for; the files of one family may be filled up to different numbers."""

    def _tokens_differ(self) -> Problem | None:
        file = self._desk.lender.place(ROLE).model / "tokenizer.json"
        try:
            theirs = vocabularies.read(file)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(
                "model.tokenizer_broken",
                f"The teacher's tokenizer.json cannot be read: {str(error)[:200]}.",
                "Import the teacher again.",
            ) from None
        return vocabularies.compared(self._desk.tokenizer.vocabulary(), theirs)

    @property
    def digest(self) -> str:
        """A short name for the model."""
        return self._desk.lender.digest(ROLE)

    @property
    def head(self) -> Head:
        """The model taken apart, with logits for the common vocabulary; read now if it is not in memory.

        Raises ModelError as loading does, and ``teacher.layout``.
        """
        if self._head is None:
            self._head = self._read()
        return self._head

    def leave(self) -> None:
        """Out of memory, until it is asked again."""
        self._head = None
        mx.clear_cache()

    def _read(self) -> Head:
        self._desk.say.phase("load", detail="teacher")
        with segments.cut(None):  # it is first asked for in the midst of a batch
            model = self._desk.lender.lend(ROLE).loaded.model
            _, why = layouts.choose(model, 1, None, is_cpu=mx.default_device().type == mx.DeviceType.cpu)
            head = heads.find(model).within(self.vocabulary)
        if why and self._desk.layout.name != "padded":
            raise ModelError(
                "teacher.layout",
                f"The teacher cannot read rows that share one token axis, as the student does: {why}.",
                "Choose a teacher of the student's own family.",
            )
        return head


class Taught(Method):
    """A method whose loss is the student's distance from its teacher, a mean over trained tokens."""

    terms = ("divergence", "cross_entropy")
    _head: Head | None = None
    _teacher: Head | None = None
    """In memory; None where batches bring along what it has told."""

    def __init__(self, aim: Aim) -> None:
        self.aim = aim

    def prepare(self, model: nn.Module) -> None:
        self._head = heads.find(model)

    def ask(self, model: nn.Module, desk: Desk, top_k: int = 0) -> Teacher:
        """The teacher; from now on the student is compared with it over their common vocabulary."""
        assert self._head is not None, "prepare() comes first"
        teacher = Teacher(desk, heads.vocabulary(model), top_k)
        self._head = self._head.within(teacher.vocabulary)
        if not top_k:
            self._teacher = teacher.head
        return teacher

    def loss(self, model: nn.Module, batch: Batch) -> Terms:
        del model  # the head that prepare() found is its
        assert self._head is not None, "prepare() comes first"
        hidden = self._head.hidden(batch)
        if self._teacher is None:
            told = batch.extra[IDS], batch.extra[LOG_PROBS]
            each = teacher_loss.by_likeliest(self.aim, self._head, hidden, told, batch.targets)
        else:
            seen = mx.stop_gradient(self._teacher.hidden(batch))
            each = teacher_loss.whole(self.aim, (self._head, hidden), (self._teacher, seen), batch.targets)
        loss, apart, nats = mx.sum(mx.where(batch.counted[:, None] > 0, each, 0.0), axis=0)
        return {"loss": loss, "divergence": apart, "cross_entropy": nats}
