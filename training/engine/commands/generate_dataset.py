"""A data set in which a model answers the questions of another one: sequence-level distillation.

Kim and Rush 2016, arXiv 1606.07947: a student that is trained on the teacher's own answers needs neither its
tokenizer nor its probabilities. Groups of questions are answered one after the other and written down
(``answers.jsonl`` in the run folder), so a killed run goes on and ends with the same rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.engine.config.derived import GenerateDatasetConfig
from training.engine.data import version_folder
from training.engine.data.containers import Record
from training.engine.data.sources import SPLITS, Part
from training.engine.data.validate import Examiner, Report, examined
from training.engine.data.version_folder import Draft, storage_error, write_line
from training.engine.errors import DataError
from training.engine.folders import places
from training.engine.generation.rollout import Completion, Rollout
from training.engine.generation.sampling import Sampling
from training.engine.machine import device
from training.engine.models.loading import Loaded
from training.engine.models.tokenizer import Tokenizer
from training.engine.models.tokenizer import load as load_tokenizer
from training.engine.rows import asked, masks
from training.engine.run.records import Records
from training.engine.run.session import Session
from training.engine.tuning.fuse import load_place

GROUP = 32  # questions that are answered together
ROOM = 32768  # tokens whose keys and values are held at once
MAX_PROBLEMS = 20
Turns = list[dict[str, Any]]


def run(config: GenerateDatasetConfig, session: Session) -> dict[str, Any]:
    """Answer, then publish the rows as a data set version in ``config.target``; each question keeps its split.

    Returns what ``import-dataset`` returns. Raises DataError ``generate.no_questions``, ``generate.no_answers``,
    ModelError, StorageError.
    """
    questions = {split: _questions(config, split) for split in SPLITS}
    if not any(questions.values()):
        raise DataError(
            "generate.no_questions",
            f"No row of {config.data.name} asks anything.",
            "Choose a data set of prompts, chats or pairs.",
        )
    answers = _Answers(config, session).to(questions)
    draft = Draft(config.target)
    try:
        try:
            report = _write(answers, draft.folder)
        except OSError as error:
            raise storage_error(error) from error
        about = {"source": {"kind": "generated", "model": config.model.model.name, "data": config.data.name}}
        about |= {"draw": config.draw.model_dump(mode="json"), "report": report.as_dict()}
        path, name, already_there = draft.publish("chat", about)
    finally:
        draft.drop()
    found = {split: version_folder.describe(path / f"{split}.jsonl") for split in SPLITS}
    return {
        "sha256": name,
        "path": str(path),
        "data_format": "chat",
        "rows": {split: file["rows"] for split, file in found.items() if file["rows"]},
        "bytes": sum(file["bytes"] for file in found.values()),
        "already_there": already_there,
        "report": report.as_dict(),
    }


def _questions(config: GenerateDatasetConfig, split: str) -> list[Turns]:
    """What the rows of ``split`` ask, each once, in their order."""
    path = config.data / f"{split}.jsonl"
    if not path.exists():
        return []
    found: dict[str, Turns] = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            one = asked.of(json.loads(line))
            if one is not None:
                found.setdefault(json.dumps(one.prompt), one.prompt)
    return list(found.values())[: config.draw.rows or None]


class _Answers:
    """The model at work."""

    def __init__(self, config: GenerateDatasetConfig, session: Session) -> None:
        self.config, self.session, self.draw = config, session, config.draw
        session.phase("load")
        machine = device.set_up(config.draw.seed)
        session.journal.write("machine", **machine.as_dict())
        self.words: Tokenizer = load_tokenizer(config.model.model)
        loaded = load_place(config.model, config.dtype, machine).loaded
        self.records = Records(session.run_dir.root / "answers.jsonl", self._identity())
        self.rollout = Rollout(loaded.model, self.words.eos_ids, tokens=ROOM)
        self.most = min(ROOM, _context(loaded)) - config.draw.max_tokens
        self.long = self.cut = 0

    def _identity(self) -> str:
        """Digest of model, questions and how answers are drawn."""
        tails = b"".join(places.tail(self.config.data / f"{split}.jsonl") for split in SPLITS)
        drawn = json.dumps([places.digest(self.config.model), self.draw.model_dump(mode="json"), self.config.dtype])
        return hashlib.sha256(tails + drawn.encode()).hexdigest()

    def to(self, questions: dict[str, list[Turns]]) -> list[tuple[str, dict[str, Any]]]:
        """Rows in the chat form with their splits."""
        rows: list[tuple[str, dict[str, Any]]] = []
        total, done = sum(map(len, questions.values())), 0
        for number, split in enumerate(SPLITS):
            for first in range(0, len(questions[split]), GROUP):
                group = questions[split][first : first + GROUP]
                self.session.check()
                made = self.records.of(f"{split} {first}", lambda: self._group(group, (number, first)))  # noqa: B023
                self.long, self.cut = self.long + made["long"], self.cut + made["cut"]
                for at, text in made["answers"]:
                    turns = [*group[at], {"role": "assistant", "content": text}]
                    rows.append((split, {"messages": turns}))
                done += len(group)
                self.session.phase("generate", done, total, split)
        self._tell(rows)
        return rows

    def _group(self, group: list[Turns], where: tuple[int, int]) -> dict[str, Any]:
        """Answers as (number in the group, text), and how many could not be used."""
        prompts = [masks.prompt(turns, self.words) for turns in group]
        fit = [at for at, prompt in enumerate(prompts) if 0 < len(prompt) <= self.most]
        how = Sampling(self.draw.temperature, self.draw.top_k, self.draw.top_p)
        made = self.rollout.run(
            [prompts[at] for at in fit],
            self.draw.max_tokens,
            how,
            samples=self.draw.samples,
            seed=(self.draw.seed, *where),
            check=self.session.check,
        )
        kept = [one for one in made if self.draw.keep_cut or one.finish == "eos"]
        texts = dict.fromkeys((fit[one.prompt], self._text(one)) for one in kept)  # the same answer once
        return {
            "answers": [[at, text] for at, text in texts if text],
            "long": len(group) - len(fit),
            "cut": len(made) - len(kept),
        }

    def _text(self, one: Completion) -> str:
        ids = one.ids[:-1] if one.finish == "eos" else one.ids
        return self.words.decode(ids, skip_special=True).strip()

    def _tell(self, rows: list[tuple[str, dict[str, Any]]]) -> None:
        if self.long:
            self.session.log(f"{self.long} questions are longer than {self.most} tokens and left out.", "warning")
        if self.cut:
            longest = self.draw.max_tokens
            self.session.log(f"{self.cut} answers did not end within {longest} tokens and are left out.", "warning")
        if not rows:
            raise DataError(
                "generate.no_answers",
                f"None of the answers is of use: {self.cut} did not end within {self.draw.max_tokens} tokens.",
                "Allow longer answers, keep those that were cut, or choose a fine-tuned model.",
            )


def _context(loaded: Loaded) -> int:
    """Positions that the model knows."""
    text = loaded.config.get("text_config") or {}
    found = loaded.config.get("max_position_embeddings") or text.get("max_position_embeddings")
    return found if isinstance(found, int) else ROOM


def _write(rows: list[tuple[str, dict[str, Any]]], folder: Path) -> Report:
    """Judge the rows as an import does, and write the good ones, each into its split."""

    def records() -> Iterator[tuple[Part, Record]]:
        for number, (split, row) in enumerate(rows, 1):
            yield Part(folder, "generated", split, 0), Record(number, row)

    examiner: Examiner | None = None
    lines: dict[str, list[bytes]] = {split: [] for split in SPLITS}
    for part, line, judge in examined(records(), "chat", MAX_PROBLEMS):
        examiner = judge
        if line is not None:
            lines[part.split].append(line)
    for split, found in lines.items():
        with open(folder / f"{split}.jsonl", "wb") as file:
            for line in found:
                write_line(file, line)
    assert examiner is not None, "there is at least one row"
    return examiner.finish()
