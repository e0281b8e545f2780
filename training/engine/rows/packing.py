"""Examples as a few arrays, and back: what files hold of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np

from training.engine.rows.examples import Array, Example
from training.engine.rows.masks import Encoded

_NUMBER, _ARRAY = "number.", "array."


def pack(examples: Sequence[Example]) -> dict[str, Array]:
    """All of ``examples`` by name; none of them is an array of objects."""
    sequences = [part for example in examples for part in example.parts]
    first = examples[0] if examples else Example.single(Encoded([], [], 0))
    arrays = {
        "ids": _joined([np.array(one.ids, np.int32) for one in sequences], np.int32),
        "trained": _joined([np.array(one.trained, bool) for one in sequences], bool),
        "ends": np.cumsum([len(one.ids) for one in sequences], dtype=np.int64),
        "cuts": np.array([one.cut for one in sequences], np.int64),
        "parts": np.array([len(first.parts)]),
    }
    arrays |= {f"{_NUMBER}{name}": np.array([e.numbers[name] for e in examples]) for name in first.numbers}
    arrays |= {f"{_ARRAY}{name}": np.concatenate([e.arrays[name] for e in examples]) for name in first.arrays}
    if first.row is not None:
        arrays["rows"] = np.frombuffer(json.dumps([e.row for e in examples]).encode(), dtype=np.uint8)
    return arrays


def unpack(found: Mapping[str, Array]) -> list[Example]:
    """What :func:`pack` was given. Raises KeyError or ValueError for anything else."""
    ids, trained, ends = found["ids"], found["trained"], found["ends"].tolist()
    sequences = [
        Encoded(ids[start:end].tolist(), trained[start:end].tolist(), cut)
        for start, end, cut in zip([0, *ends][:-1], ends, found["cuts"].tolist(), strict=True)
    ]
    parts = int(found["parts"][0])
    grouped = [tuple(sequences[i : i + parts]) for i in range(0, len(sequences), parts)]
    numbers = {name.removeprefix(_NUMBER): found[name].tolist() for name in found if name.startswith(_NUMBER)}
    arrays = {name.removeprefix(_ARRAY): found[name] for name in found if name.startswith(_ARRAY)}
    own = json.loads(found["rows"].tobytes()) if "rows" in found else [None] * len(grouped)
    examples, start = [], 0
    for i, group in enumerate(grouped):
        example = Example(group, {name: values[i] for name, values in numbers.items()}, row=own[i])
        end = start + example.targets
        examples.append(example.noted({}, {name: values[start:end] for name, values in arrays.items()}))
        start = end
    return examples


def _joined(parts: list[Array], kind: type) -> Array:
    return np.concatenate([np.zeros(0, kind), *parts])
