"""The command ``evaluate``: loss, answers, rule scores, reward scores and win rate of a model on a data set.

The models are in memory one after the other: the one that is looked at, the baseline, the reward model. Every
batch of losses and every group of answers is written down when it is done (``evaluation.jsonl`` in the run
folder), in fixed groups, so that an evaluation that was killed goes on and gives the same numbers.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from training.engine.catalog.supervised_methods import Sft
from training.engine.config.evaluations import EvaluateConfig
from training.engine.errors import DataError
from training.engine.folders import places
from training.engine.folders.places import Place
from training.engine.generation.generate import answers
from training.engine.generation.rollout import Rollout
from training.engine.generation.sampling import Sampling
from training.engine.machine import blas, device
from training.engine.machine.device import Device
from training.engine.methods.sft import Sft as Supervised
from training.engine.models.loading import Loaded
from training.engine.models.tokenizer import Tokenizer
from training.engine.models.tokenizer import load as load_tokenizer
from training.engine.rows import asked, batches, layouts, masks, segments
from training.engine.rows.asked import Asked
from training.engine.rows.batches import ByRows, Rows
from training.engine.rows.examples import Example
from training.engine.rows.masks import Encoded
from training.engine.run.records import Records
from training.engine.run.session import Session
from training.engine.scores import win_rate
from training.engine.scores.rule_scores import Rules
from training.engine.scores.scorer import Scorer
from training.engine.tuning.fuse import load_place

GROUP = 32  # rows that are answered and scored together
SHOWN = 16  # answers that are told as samples
ROOM = 32768  # tokens whose keys and values are held at once
GIB = 1 << 30
_Values = dict[str, float]


def run(config: EvaluateConfig, session: Session) -> dict[str, Any]:
    """Evaluate as ``config`` says; returns ``{"values", "rows", "answered"}`` for the journal's last word.

    Raises DataError ``evaluation.no_rows``, ``evaluation.nothing``, ``rule.no_reference``, ConfigError ``rule.…``,
    ModelError.
    """
    return _Evaluation(config, session).run()


class _Evaluation:
    def __init__(self, config: EvaluateConfig, session: Session) -> None:
        self.config, self.session = config, session
        self.rules = Rules.of(config.rules)
        self.path = config.data / f"{config.split}.jsonl"
        self.rows = _rows(self.path, session.check)
        self.questions = self._questions()
        self.machine = self._machine()
        # Last, when all that can be refused at once has been looked at.
        self.records = Records(session.run_dir.root / "evaluation.jsonl", self._identity())
        self.peak = 0

    def run(self) -> dict[str, Any]:
        mx.reset_peak_memory()
        values = self._of_model()
        if self.config.reward_model is not None:
            values |= self._by_reward(self.config.reward_model)
        self._refuse_nothing(values)
        values["peak_memory_gb"] = self.peak / GIB
        for name, count in self.rules.slow.items():
            self.session.log(
                f"{count} answers took the rule {name} longer than its time limit; they count 0.", "warning"
            )
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self.session.journal.write("evaluated", step=0, values=finite)
        return {"values": finite, "rows": len(self.rows), "answered": len(self.questions), "split": self.config.split}

    # What is asked ---------------------------------------------------------------------------

    def _questions(self) -> list[Asked]:
        """The rows to be answered, evenly taken from all that ask something."""
        found = [(n, one) for n, row in enumerate(self.rows, 1) if (one := asked.of(row)) is not None]
        most = min(self.config.rows, len(found))
        chosen = [found[i * len(found) // most] for i in range(most)]
        needed = bool(self.config.rules) or self.config.reward_model is not None
        if needed and not chosen:
            raise DataError(
                "evaluation.no_prompts",
                f"No row of {self.path.name} asks anything, so there are no answers to score.",
                "Choose a data set with prompts, or measure the loss alone.",
            )
        for n, one in chosen:
            if self.rules.needs_reference and one.reference is None:
                raise DataError(
                    "rule.no_reference",
                    f"Row {n} of {self.path.name} has no reference answer, and a rule compares with one.",
                    "Leave the rule exact_answer out, or choose a data set with answers.",
                )
        return [one for _, one in chosen]

    def _machine(self) -> Device:
        self.session.phase("load")
        machine = device.set_up(self.config.seed, self.config.kernel_cache)
        self.session.journal.write("machine", **machine.as_dict(), ranks=1, mlx=version("mlx"))
        if slow := blas.note():
            self.session.log(slow, "warning")
        return machine

    def _identity(self) -> str:
        config = self.config
        where = [places.digest(place) for place in (config.model, config.reward_model, config.baseline) if place]
        asked_for = config.model_dump(mode="json", exclude={"kernel_cache"})
        return hashlib.sha256(json.dumps([asked_for, where], sort_keys=True).encode()).hexdigest()

    def _piece(self, key: str, compute: Callable[[], Any]) -> Any:
        """What ``compute`` makes, of this attempt or of one before; the memory it took is kept with it."""
        piece = self.records.of(key, lambda: {"made": compute(), "peak": mx.get_peak_memory()})
        self.peak = max(self.peak, piece["peak"])
        return piece["made"]

    def _refuse_nothing(self, values: _Values) -> None:
        if not values:
            raise DataError(
                "evaluation.nothing",
                f"The rows of {self.path.name} have neither answers to read nor prompts to answer.",
                "Choose another data set or another split.",
            )

    # The model and its baseline ----------------------------------------------------------------

    def _of_model(self) -> _Values:
        loaded, tokenizer = self._load(self.config.model)
        values = self._loss(loaded, tokenizer) if self.config.loss else {}
        made = self._answered("model", loaded, tokenizer)
        if not made:
            return values
        for index, (question, one) in enumerate(zip(self.questions[:SHOWN], made, strict=False)):
            self._tell(index, question, one)
        return values | self._speed(made, "model") | self._by_rules(made)

    def _load(self, place: Place) -> tuple[Loaded, Tokenizer]:
        self.session.phase("load", detail=place.adapter.name if place.adapter else place.model.name)
        loaded = load_place(place, self.config.dtype, self.machine).loaded
        loaded.model.freeze()
        loaded.model.eval()
        return loaded, load_tokenizer(place.model)

    def _loss(self, loaded: Loaded, tokenizer: Tokenizer) -> _Values:
        config = self.config
        rows = self._read_for_loss(tokenizer)
        if not rows.rows:
            self.session.log("No row holds an answer to read, so there is no loss.", "warning")
            return {}
        layout, _ = layouts.choose(loaded.model, config.batch_size, None, is_cpu=self.machine.is_cpu)
        method = Supervised(Sft(train_on=config.train_on))
        method.prepare(loaded.model)
        parts = batches.batches_in_order(rows, ByRows(config.batch_size))
        nats, tokens, seconds = 0.0, 0, 0.0
        for index, numbers in enumerate(parts):
            self.session.phase("evaluate", index, len(parts), "loss")

            def compute(numbers: list[int] = numbers) -> list[float]:
                since = time.perf_counter()
                batch = layout.lay([rows.rows[i] for i in numbers])
                with segments.cut(batch.cuts):
                    loss = float(np.array(method.loss(loaded.model, batch)["loss"]))
                return [loss, batch.tokens, time.perf_counter() - since]

            more, count, took = self._piece(f"loss {index}", compute)
            nats, tokens, seconds = nats + more, tokens + int(count), seconds + took
        loss = nats / tokens
        values = {"loss": loss, "loss_tokens": float(tokens), "read_tokens_per_second": tokens / max(seconds, 1e-9)}
        return values | ({"perplexity": math.exp(loss)} if loss < 700 else {})

    def _read_for_loss(self, tokenizer: Tokenizer) -> Rows:
        self.session.phase("tokenize", detail=self.config.split)

        def encode(row: dict[str, Any]) -> list[Example]:
            return [Example.single(trained_part(row, tokenizer, self.config))]

        rows = batches.read(self.path, encode, lambda _: self.session.check())
        if rows.cut:
            self.session.log(f"{rows.cut} rows are cut at {self.config.max_seq_length} tokens.", "warning")
        return rows

    def _answered(self, who: str, loaded: Loaded, tokenizer: Tokenizer) -> list[dict[str, Any]]:
        """An answer to each question: text, tokens, and whether it was cut."""
        config = self.config
        if not self.questions:
            return []
        prompts = [masks.prompt(one.prompt, tokenizer) for one in self.questions]
        longest = max(map(len, prompts)) + config.max_tokens
        context = loaded.config.get("max_position_embeddings")
        rollout = Rollout(
            loaded.model,
            tokenizer.eos_ids,
            rows=config.batch_size,
            tokens=max(ROOM, longest),
            context=context if isinstance(context, int) else None,
        )
        how = Sampling(config.temperature, config.top_k, config.top_p)
        made: list[dict[str, Any]] = []
        for group in range(0, len(prompts), GROUP):
            self.session.phase("answer", group, len(prompts), who)

            def compute(group: int = group) -> dict[str, Any]:
                since = time.perf_counter()
                found = answers(
                    rollout,
                    tokenizer,
                    prompts[group : group + GROUP],
                    config.max_tokens,
                    how,
                    seed=config.seed + group,
                    check=self.session.check,
                )
                rows = [{"text": one.text, "tokens": one.tokens, "seconds": one.seconds} for one in found]
                return {"rows": rows, "seconds": time.perf_counter() - since}

            piece = self._piece(f"{who} {group}", compute)
            made += piece["rows"]
        return made

    def _speed(self, made: list[dict[str, Any]], who: str) -> _Values:
        pieces = [self._piece(f"{who} {group}", dict) for group in range(0, len(made), GROUP)]
        seconds, tokens = sum(piece["seconds"] for piece in pieces), sum(one["tokens"] for one in made)
        cut = sum(one["tokens"] >= self.config.max_tokens for one in made)
        return {
            "tokens_per_second": tokens / max(seconds, 1e-9),
            "answer_tokens": tokens / len(made),
            "cut_share": cut / len(made),
        }

    def _by_rules(self, made: list[dict[str, Any]]) -> _Values:
        """Means of each rule's values, and of their weighted sum."""
        if not self.rules.names:
            return {}
        totals = dict.fromkeys(("rule_score", *self.rules.names), 0.0)
        for question, one in zip(self.questions, made, strict=True):
            self.session.check()
            total, values = self.rules.score(question.prompt, one["text"], question.reference, one["tokens"])
            for name, value in {"rule_score": total, **values}.items():
                totals[name] += value
        return {name: value / len(made) for name, value in totals.items()}

    def _tell(self, index: int, question: Asked, one: dict[str, Any]) -> None:
        self.session.journal.write(
            "sample",
            step=0,
            index=index,
            prompt=str(question.prompt[-1]["content"]),
            text=one["text"],
            reference=question.reference or "",
            tokens=one["tokens"],
            seconds=one["seconds"],
        )

    # The reward model ---------------------------------------------------------------------------

    def _by_reward(self, place: Place) -> _Values:
        texts = {"model": self._texts("model")}
        if self.config.baseline is not None:
            loaded, tokenizer = self._load(self.config.baseline)
            texts["baseline"] = [one["text"] for one in self._answered("baseline", loaded, tokenizer)]
            del loaded
            mx.clear_cache()
        self.session.phase("load", detail="reward model")
        scorer = Scorer(
            load_place(place, self.config.dtype, self.machine),
            load_tokenizer(place.model),
            max_seq_length=self.config.max_seq_length + self.config.max_tokens,
            rows=self.config.batch_size,
            is_cpu=self.machine.is_cpu,
        )
        scores = {who: self._scores(scorer, who, found) for who, found in texts.items()}
        values = {"reward": _mean(scores["model"])}
        if "baseline" in scores:
            won = win_rate.of(scores["model"], scores["baseline"], self.config.seed)
            values |= {"reward_baseline": _mean(scores["baseline"])}
            values |= {"win_rate": won.share, "win_rate_low": won.low, "win_rate_high": won.high}
        return values | self._of_pairs(scorer)

    def _texts(self, who: str) -> list[str]:
        pieces = (self._piece(f"{who} {group}", dict) for group in range(0, len(self.questions), GROUP))
        return [one["text"] for piece in pieces for one in piece["rows"]]

    def _scores(self, scorer: Scorer, who: str, texts: list[str]) -> list[float]:
        found: list[float] = []
        for group in range(0, len(texts), GROUP):
            self.session.phase("score", group, len(texts), who)
            pairs = zip(self.questions[group : group + GROUP], texts[group : group + GROUP], strict=True)
            answered = [(question.prompt, text) for question, text in pairs]
            found += self._piece(f"score {who} {group}", partial(scorer.score, answered))
        return found

    def _of_pairs(self, scorer: Scorer) -> _Values:
        """In which share of the data's own pairs the chosen answer has the higher score; a tie counts half."""
        pairs = [row for row in self.rows if "rejected" in row][: self.config.rows]
        wins, margin = 0.0, 0.0
        for start in range(0, len(pairs), GROUP):
            self.session.phase("score", start, len(pairs), "pairs")
            part = pairs[start : start + GROUP]
            both = [(row["prompt"], row[which]) for row in part for which in ("chosen", "rejected")]
            scores = self._piece(f"pairs {start}", partial(scorer.score, both))
            for better, worse in zip(scores[::2], scores[1::2], strict=True):
                wins += (better > worse) + 0.5 * (better == worse)
                margin += better - worse
        return {"reward_accuracy": wins / len(pairs), "reward_margin": margin / len(pairs)} if pairs else {}


def trained_part(row: dict[str, Any], tokenizer: Tokenizer, config: EvaluateConfig) -> Encoded:
    """What the loss counts of ``row``: as supervised fine-tuning does; of a pair the chosen answer, of a judged
    answer a good one; nothing of a row that only asks."""
    length = config.max_seq_length
    if "chosen" in row:
        return masks.answer(row["prompt"], row["chosen"], tokenizer, length)
    if row.get("label"):
        return masks.answer(row["prompt"], row["completion"], tokenizer, length)
    if "label" in row or isinstance(row.get("prompt"), list):
        return Encoded([0], [False], 0)
    return masks.encode(row, tokenizer, config.train_on, length)


def _rows(path: Path, check: Callable[[], None]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    if path.exists():
        with open(path, encoding="utf-8") as file:
            for line in file:
                rows.append(json.loads(line))
                if len(rows) % 1000 == 0:
                    check()
    if not rows:
        raise DataError(
            "evaluation.no_rows", f"There are no rows in {path.name}.", "Choose another split of the data set."
        )
    return rows


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
