"""The loop, the only one: every method is trained by it.

A step is one optimizer update. Between two micro-batches the loop can be stopped; everything it
needs to go on bit for bit stands in :class:`training.engine.loop.checkpoint.Position` and in the arrays
that a checkpoint holds. Evaluations and checkpoints are *due* at steps, and what was already done
at a step is remembered, so a loop that starts anew at any point does the same work in the same order.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.optimizers as mo
from mlx import nn
from mlx.utils import tree_flatten, tree_map

from training.engine.config.training import TrainConfig
from training.engine.errors import Diverged, StopAsked
from training.engine.generation.samples import Sampler
from training.engine.learning.method import Method, units
from training.engine.learning.online import Online, OnlineFeed
from training.engine.loop import checkpoint, standing
from training.engine.loop.checkpoint import Position
from training.engine.loop.distributed import Group
from training.engine.loop.feed import Feed
from training.engine.loop.memory_watch import MemoryWatch
from training.engine.loop.run_lengths import Plan
from training.engine.loop.standing import Standing
from training.engine.loop.steps import Gradients, Steps
from training.engine.optimizers import factory
from training.engine.optimizers.loss_scale import LossScale
from training.engine.rows.batches import Rows
from training.engine.rows.examples import Array
from training.engine.rows.layouts import Batch, Layout
from training.engine.run.session import Session
from training.engine.scores.examiner import Examiner, perplexity
from training.engine.tuning import adapters

GIB = 1 << 30


class Trainer:
    """Trains ``model`` in place. ``fit`` may be called once."""

    def __init__(
        self,
        config: TrainConfig,
        session: Session,
        model: nn.Module,
        method: Method,
        *,
        layout: Layout,
        splits: dict[str, Rows],
        sampler: Sampler,
        examiner: Examiner,
        identity: dict[str, str],
        group: Group,
        watch: MemoryWatch,
        compiled: bool,
    ) -> None:
        self.config, self.session, self.model, self.method, self.compiled = config, session, model, method, compiled
        self.sampler, self.identity, self.group, self.watch = sampler, identity, group, watch
        self.examiner = examiner
        self.feed: Feed | OnlineFeed
        if isinstance(method, Online):
            self.feed = OnlineFeed(config, splits, layout, method, session.check, collected=self._say_train)
        else:
            self.feed = Feed(config, splits, layout, group)
            if config.cache_activations:
                self.feed.cache_activations(model, session.run_dir.root, session)
        self.plan = Plan.of(config, self.feed.per_epoch)
        self.optimizer: mo.Optimizer = factory.build(config, model)
        self.optimizer.init(model.trainable_parameters())
        self.factor = factory.schedule(config.lr_schedule, self.plan.steps)
        self.where = Position()
        floats = [w.dtype for _, w in tree_flatten(model.parameters()) if mx.issubdtype(w.dtype, mx.floating)]
        self.scale = LossScale() if mx.float16 in floats else None
        self.gradients: Gradients = None
        self._told: Path | None = None
        self.names = ("loss", *method.terms)
        self.standing = Standing(method.goal, config.patience)
        self.steps = self._made_steps()

    def _made_steps(self) -> Steps:
        longest, compiled = self.config.max_grad_norm, self.compiled
        return Steps(self.model, self.method, self.optimizer, longest=longest, seam=self.feed.seam, compiled=compiled)

    def resume(self) -> None:
        """Go on from the newest whole checkpoint, if there is one."""
        path = self._newest()
        if path is not None:
            self._restore(path)
        self.group.own_randomness()

    def _newest(self) -> Path | None:
        """The checkpoint to go on from; rank 0 looks for it and tells the others."""
        folder, place = self.session.run_dir.checkpoints, (0, 0)
        if self.group.is_first:
            checkpoint.sweep(folder)
            path = checkpoint.newest(folder, lambda fault: self.session.log(fault, "warning"))
            for broken in checkpoint.set_aside(folder, path):
                self._tell_removed(broken)
            place = checkpoint.place_of(path) if path is not None else place
        step, micro = map(int, self.group.total(*place))
        return folder / checkpoint.name_of(Position(step=step, micro=micro)) if step or micro else None

    def _restore(self, path: Path) -> None:
        self.where, gradients, own = checkpoint.restore(path, self.model, self.optimizer, self.identity)
        if self.scale is not None and self.where.scale:
            self.scale = LossScale(self.where.scale[0], int(self.where.scale[1]))
        self.gradients = gradients if self.group.is_first else None  # they are the sum over the ranks
        self.feed.restore(self.where.cursor, self.where.feed, own)
        self.steps = self._made_steps()  # the optimizer's state is another object now
        self.session.log(f"Goes on from step {self.where.step} of {self.plan.steps}.")

    def fit(self) -> dict[str, Any]:
        """Train to the end and return what the last word says. Raises StopAsked after saving."""
        self._say_train()
        try:
            self.model.train()
            while True:
                self._evaluate_if_due()
                self._save_if_due()
                if self.where.step >= self.plan.steps:
                    break
                if self.standing.is_over(self.where.bad_evals):
                    self.session.log(self.standing.why_over(self.where))
                    break
                self._update()
        except StopAsked:
            self.save()
            self.watch.refuse()
            raise
        return self._result()

    def _say_train(self) -> None:
        self.session.phase("train", self.where.step, self.plan.steps)

    # One update ------------------------------------------------------------------------------

    def _update(self) -> None:
        """Sum up micro-batches, then change the weights once."""
        while self.where.micro < self.config.grad_accumulation_steps:
            self.watch.look()
            self.group.check()
            self._micro_batch()
        where = self.where
        self._refuse_nonsense(where.loss_sum / max(1, where.units), 0.0)
        since = time.perf_counter()
        rate = self.config.learning_rate * self.factor(where.step)
        gradients = self._all_gradients()
        grad_norm = 0.0
        if self._is_within_range(gradients):
            grad_norm = self.steps.update(gradients, where.units, rate)
        self._refuse_nonsense(where.loss_sum / max(1, where.units), grad_norm)
        where.report_seconds += time.perf_counter() - since
        self.watch.updated()
        where.step += 1
        where.report_loss += where.loss_sum
        where.report_sums = _added(where.report_sums, where.sums)
        where.report_tokens += where.tokens
        where.report_units += where.units
        where.report_steps += 1
        where.trained_tokens += where.tokens
        where.micro, where.loss_sum, where.sums, where.tokens, where.units = 0, 0.0, {}, 0, 0
        self.gradients = None
        self._report(rate, grad_norm)

    def _micro_batch(self) -> None:
        since = time.perf_counter()
        batch = self.feed.next()
        sums, tokens, count = self._totals(batch, self._pass)
        self.where.report_seconds += time.perf_counter() - since
        self.where.loss_sum += sums.pop("loss")
        self.where.sums = _added(self.where.sums, sums)
        self.where.tokens += tokens
        self.where.units += count
        self.where.micro += 1
        if isinstance(self.feed, OnlineFeed):
            self.feed.passed()
        self.where.cursor = self.feed.cursor

    def _totals(
        self, batch: Batch | None, compute: Callable[[Batch], dict[str, float]]
    ) -> tuple[dict[str, float], int, int]:
        """The method's sums over all ranks' rows, their trained tokens and their units."""
        mine, tokens, count = dict.fromkeys(self.names, 0.0), 0, 0
        if batch is not None:
            mine, tokens, count = compute(batch), batch.tokens, units(self.method, batch)
        *sums, tokens_of_all, units_of_all = self.group.total(*(mine[name] for name in self.names), tokens, count)
        return dict(zip(self.names, sums, strict=True)), int(tokens_of_all), int(units_of_all)

    def _pass(self, batch: Batch) -> dict[str, float]:
        """The sums over this rank's rows; their gradients are added up."""
        new = self.steps.is_new(batch)
        if new:
            self.session.phase("compile", detail=f"{batch.ids.shape[-1]} tokens")
        sums, self.gradients = self.steps.micro_batch(batch, self.gradients, self.scale.value if self.scale else None)
        self.watch.saw(batch)
        if new:
            self._say_train()
        return sums

    def _all_gradients(self) -> Gradients:
        """Summed over the ranks; zeros from one that had no row."""
        own = self.gradients
        if own is None:
            own = tree_map(lambda weight: mx.zeros(weight.shape), self.model.trainable_parameters())
        return self.group.sum(own)

    def _is_within_range(self, gradients: Gradients) -> bool:
        """Whether the scaled gradients are finite; the scale learns from it. Always, where nothing is scaled."""
        if self.scale is None:
            return True
        finite = math.isfinite(self.steps.length(gradients))
        self.scale.saw(finite=finite)
        self.where.scale = [self.scale.value, self.scale.good]
        if not finite:
            scale = self.scale.value
            self.session.log(
                f"Update {self.where.step + 1} is left out: beyond float16. The loss scale is {scale:g} now."
            )
        return finite

    def _refuse_nonsense(self, loss: float, length: float) -> None:
        if math.isfinite(loss) and math.isfinite(length):
            return
        raise Diverged(
            "diverged.loss" if not math.isfinite(loss) else "diverged.gradient",
            f"At step {self.where.step + 1} the loss was {loss:g} and the gradient's length {length:g}.",
            "Start again from a checkpoint with a lower learning rate or a longer warm-up.",
        )

    def _report(self, rate: float, length: float) -> None:
        where = self.where
        if where.step % self.config.steps_per_report and where.step < self.plan.steps:
            return
        seconds, steps = where.report_seconds, where.report_steps
        memory, peak = self.group.most(mx.get_active_memory() / GIB, self.watch.peak() / GIB)
        values = {
            "train_loss": where.report_loss / max(1, where.report_units),
            **{f"train_{name}": value / max(1, where.report_units) for name, value in where.report_sums.items()},
            "learning_rate": rate,
            "grad_norm": length,
            "tokens_per_second": where.report_tokens / seconds if seconds else 0.0,
            "step_seconds": seconds / max(1, steps),
            "trained_tokens": where.trained_tokens,
            "epoch": self.feed.epochs,
            "memory_gb": memory,
            "peak_memory_gb": peak,
        }
        where.report_loss, where.report_tokens, where.report_seconds, where.report_steps = 0.0, 0, 0.0, 0
        where.report_sums, where.report_units = {}, 0
        values |= self.feed.told()
        self.session.journal.write("metrics", step=where.step, of=self.plan.steps, values=values)

    # Evaluation ------------------------------------------------------------------------------

    def _evaluate_if_due(self) -> None:
        where = self.where
        due = where.step % self.plan.eval_every == 0 or where.step >= self.plan.steps
        if where.micro or where.last_eval == where.step or not due:
            return
        self.session.phase("evaluate", detail=f"step {where.step}")
        self.model.eval()
        try:
            values = self._losses()
            if self.group.is_first:
                values |= self.examiner.examine(self.model, self.session.check)
            answers = self.sampler.answer(self.model, self.session.check) if self.group.is_first else iter(())
            for index, sample in enumerate(answers):
                self.session.journal.write("sample", step=where.step, index=index, **asdict(sample))
        finally:
            self.model.train()
        self.session.journal.write("evaluated", step=where.step, values=values)
        where.last_eval = where.step
        self.standing.remember(where, values)
        standing.refuse_broken(where.step, values)
        self.session.phase("train", where.step, self.plan.steps)

    def _losses(self) -> dict[str, float]:
        """Changes nothing: an end asked for in the middle of it leaves the evaluation to the next attempt."""
        values: dict[str, float] = {}
        if self.feed.splits["valid"].rows and self.config.val_batches:
            values |= self._means("valid", self.config.val_batches, "val_")
            if self.method.is_likelihood:
                values["val_perplexity"] = perplexity(values["val_loss"])
        over = self.standing.is_over(self.standing.bad_evals(self.where, values))
        last = self.where.step >= self.plan.steps or over
        if self.feed.splits["test"].rows and (last or self.where.step == 0):
            values |= self._means("test", -1, "test_")
        return values

    def _means(self, split: str, most: int, prefix: str) -> dict[str, float]:
        """Loss and terms, each a mean over the units of ``split``, at most ``most`` batches of it."""
        if isinstance(self.feed, OnlineFeed):
            return {f"{prefix}{name}": value for name, value in self.feed.judged(split, most).items()}
        total: dict[str, float] = {}
        count = 0
        for batch in self.feed.evaluation(split, most):
            self.group.check()
            sums, _, more = self._totals(batch, self.steps.terms)
            total = _added(total, sums)
            count += more
        return {f"{prefix}{name}": value / max(1, count) for name, value in total.items()}

    # Checkpoints -----------------------------------------------------------------------------

    def _save_if_due(self) -> None:
        where = self.where
        due = where.step % self.plan.save_every == 0 or where.step in (self.plan.steps, where.best_step)
        over = self.standing.is_over(where.bad_evals)
        if where.micro == 0 and where.step > 0 and (due or over):
            self.save()

    def save(self) -> None:
        """Publish a checkpoint of this very place, unless it is there already, and tidy up old ones."""
        folder, where = self.session.run_dir.checkpoints, self.where
        path = folder / checkpoint.name_of(where)
        if path == self._told or (where.step == 0 and where.micro == 0):
            return
        if where.micro:  # the ranks have stopped together, each with a part of the sum
            self.gradients = self._all_gradients()
        if not self.group.is_first:
            return
        if checkpoint.fault_of(path) is not None:
            content = checkpoint.Content(
                weights=adapters.trained_weights(self.model),
                config=adapters.describe(self.config.adapter),
                optimizer=self.optimizer,
                gradients=self.gradients,
                feed=self._feeds_own(),
                start=self.config.place,
            )
            checkpoint.save(folder, where, content, self.identity)
        self._tell(checkpoint.facts_of(path))
        for old in checkpoint.surplus(folder, self.config.keep_checkpoints, where.best_step):
            checkpoint.remove(old)
            self._tell_removed(old)

    def _feeds_own(self) -> dict[str, Array]:
        self.where.feed, arrays = self.feed.state()
        return arrays

    def _tell(self, saved: checkpoint.Saved) -> None:
        """Also of one that an attempt before published: it may have been killed before it could say so."""
        where = self.where
        path = str(saved.path.relative_to(self.session.run_dir.root))
        facts = {"step": saved.step, "path": path, "bytes": saved.bytes, "sha256": saved.sha256}
        is_loss = self.standing.goal == "loss" and where.last_eval == where.step
        loss = where.val_loss if is_loss else None
        self.session.journal.write("checkpoint", **facts, val_loss=loss, best=where.step == where.best_step)
        self._told = saved.path

    def _tell_removed(self, path: Path) -> None:
        self.session.journal.write("removed", path=str(path.relative_to(self.session.run_dir.root)))

    def _result(self) -> dict[str, Any]:
        folder, where = self.session.run_dir.checkpoints, self.where
        root = self.session.run_dir.root
        best = folder / f"{where.best_step:07d}"
        last = folder / f"{where.step:07d}"
        chosen = best if where.best_step > 0 and best.is_dir() else last
        return {
            "checkpoint": str(chosen.relative_to(root)),
            "last_checkpoint": str(last.relative_to(root)),
            "step": where.step,
            "planned_steps": self.plan.steps,
            **self.standing.result(where),
            "trained_tokens": where.trained_tokens,
            "peak_memory_gb": self.group.most(self.watch.peak() / GIB)[0],
        }


def _added(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    return {name: one.get(name, 0.0) + value for name, value in other.items()}
