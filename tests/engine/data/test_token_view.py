"""The token view shows the training's own mask, and its statistics equal a direct count."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import tiny
from training.engine.config.imports import TokensConfig
from training.engine.data.token_view import run
from training.engine.errors import DataError, ModelError
from training.engine.models import tokenizer
from training.engine.rows import masks


def row(n: int, answer: str = "the answer") -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "q" * n}, {"role": "assistant", "content": answer}]}


ROWS = [row(5), row(30, "b"), row(3, "a" * 200), row(60), row(1, "é")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    model, data = tmp_path_factory.mktemp("model"), tmp_path_factory.mktemp("data")
    tiny.tokenizer(model)
    (data / "train.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in ROWS))
    return {"model": model, "data": data}


def view(folders: dict[str, Path], **more: Any) -> dict[str, Any]:
    return run(TokensConfig(**folders, **more))


def test_tokens_are_those_of_the_training(folders: dict[str, Path]) -> None:
    shown = view(folders, rows=[3, 1], max_seq_length=64)["rows"]
    words = tokenizer.load(folders["model"])
    for found, number in zip(shown, (3, 1), strict=True):
        encoded = masks.encode(ROWS[number - 1], words, "assistant", 64)
        kept = [token for token in found["tokens"] if not token["cut"]]
        assert [token["id"] for token in kept] == encoded.ids
        assert [token["trained"] for token in kept] == encoded.trained
        assert (found["row"], found["trained"], found["cut"]) == (number, encoded.count, encoded.cut)
        assert not any(token["trained"] for token in found["tokens"] if token["cut"])
    assert {token["text"] for token in shown[1]["tokens"] if token["special"]} == {"<|im_start|>", "<|im_end|>"}


@pytest.mark.parametrize(("pick", "expected"), [("longest", [3, 4]), ("most_masked", [2, 4])])
def test_picks(folders: dict[str, Path], pick: str, expected: list[int]) -> None:
    assert [r["row"] for r in view(folders, pick=pick, count=2)["rows"]] == expected


def test_random_rows_are_the_same_for_a_seed(folders: dict[str, Path]) -> None:
    one, two = (view(folders, pick="random", count=3, seed=1)["rows"] for _ in range(2))
    assert one == two
    assert len({r["row"] for r in one}) == 3


def test_row_that_trains_nothing_is_reported(folders: dict[str, Path]) -> None:
    found = view(folders, rows=[4], max_seq_length=16, statistics=True)
    assert found["rows"][0]["problem"]["code"] == "data.nothing_trained"
    words = tokenizer.load(folders["model"])
    nothing = [n for n, r in enumerate(ROWS, 1) if not masks.encode(r, words, "assistant", 16).count]
    assert found["statistics"]["trains_nothing"] == {"count": len(nothing), "rows": nothing}


def test_statistics_equal_a_direct_count(folders: dict[str, Path]) -> None:
    found = view(folders, max_seq_length=100, batch_size=2, statistics=True)["statistics"]
    words = tokenizer.load(folders["model"])
    whole = [masks.encode(r, words) for r in ROWS]
    kept = [masks.encode(r, words, "assistant", 100) for r in ROWS]
    lengths = [len(r.ids) for r in kept]
    assert sum(rows for _, rows in found["histogram"]) == found["rows"] == 5
    assert found["tokens"] == sum(lengths)
    assert found["trained"] == sum(r.count for r in kept)
    assert found["cut_share"]["100"] == sum(len(r.ids) > 100 for r in whole) / 5
    widths = 2 * max(lengths[:2]) + 2 * max(lengths[2:4]) + lengths[4]
    assert found["pad_waste"]["as_written"] == pytest.approx(1 - sum(lengths) / widths, abs=1e-4)
    ordered = sorted(lengths)
    widths = 2 * ordered[1] + 2 * ordered[3] + ordered[4]
    assert found["pad_waste"]["sorted"] == pytest.approx(1 - sum(lengths) / widths, abs=1e-4)


def test_rows_that_the_template_refuses_are_counted(folders: dict[str, Path], tmp_path: Path) -> None:
    tiny.tokenizer(tmp_path)
    about = json.loads((tmp_path / "tokenizer_config.json").read_text())
    about["chat_template"] = (
        "{% if messages[0].content | length > 20 %}{{ raise_exception('long') }}{% endif %}" + tiny.TEMPLATE
    )
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(about))
    found = view({**folders, "model": tmp_path}, rows=[2], statistics=True)
    assert found["statistics"]["refused"]["count"] == 2
    assert found["rows"][0]["problem"]["code"] == "data.chat_template"


@pytest.mark.parametrize(("more", "match"), [({"split": "test"}, "no rows for test"), ({"rows": [6]}, "no row 6")])
def test_what_is_not_there_is_named(folders: dict[str, Path], more: dict[str, Any], match: str) -> None:
    with pytest.raises(DataError, match=match):
        view(folders, **more)


def test_model_without_tokenizer_is_named(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        view({**folders, "model": tmp_path})
    assert caught.value.code == "model.no_tokenizer"


def test_neither_mlx_nor_transformers_is_loaded() -> None:
    code = (
        "import sys, training.engine.data.token_view, training.engine.commands.import_dataset; "
        "print([m for m in ('mlx', 'mlx_lm', 'transformers', 'datasets', 'pyarrow', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert done.stdout.strip() == b"[]"


Q = [{"role": "user", "content": "what?"}]
PAIRS = [
    {"prompt": Q, "chosen": "the long answer " * 9, "rejected": "no", "margin": 2.0},
    {"prompt": Q, "chosen": "yes", "rejected": "no"},
]


@pytest.fixture
def pairs(folders: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    return {**folders, "data": tmp_path}


def test_both_answers_of_a_pair_are_those_of_the_training(pairs: dict[str, Path]) -> None:
    (shown,) = view(pairs, rows=[1], max_seq_length=64)["rows"]
    words = tokenizer.load(pairs["model"])
    assert (shown["about"], shown["tokens"]) == ({"margin": 2.0}, [])
    for part, name in zip(shown["parts"], ("chosen", "rejected"), strict=True):
        trained = masks.answer(Q, PAIRS[0][name], words, 64)
        assert (part["name"], part["trained"], part["cut"]) == (name, trained.count, trained.cut)
        assert [t["id"] for t in part["tokens"] if not t["cut"]] == trained.ids
        assert [t["trained"] for t in part["tokens"] if not t["cut"]] == trained.trained
    assert shown["trained"] == sum(part["trained"] for part in shown["parts"])


def test_a_pair_counts_as_two_sequences(pairs: dict[str, Path]) -> None:
    found = view(pairs, pick="longest", max_seq_length=1024, batch_size=2, statistics=True)
    words = tokenizer.load(pairs["model"])
    lengths = [len(masks.answer(Q, pair[name], words).ids) for pair in PAIRS for name in ("chosen", "rejected")]
    counts = found["statistics"]
    assert (counts["rows"], counts["sequences"], counts["tokens"]) == (2, 4, sum(lengths))
    assert counts["pad_waste"]["as_written"] == round(1 - sum(lengths) / (4 * max(lengths)), 4)
    assert found["rows"][0]["row"] == 1


def test_a_pair_with_one_answer_cut_away_is_reported(pairs: dict[str, Path]) -> None:
    length = len(masks.prompt(Q, tokenizer.load(pairs["model"])))
    found = view(pairs, rows=[2], max_seq_length=length, statistics=True)
    assert found["rows"][0]["problem"]["code"] == "data.nothing_trained"
    assert found["statistics"]["trains_nothing"]["count"] == 2


def test_a_judged_answer_has_its_label(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps({"prompt": Q, "completion": "yes", "label": False}) + "\n")
    (shown,) = view({**folders, "data": tmp_path})["rows"]
    assert (shown["name"], shown["about"], shown["parts"]) == ("completion", {"label": False}, [])
    assert "".join(token["text"] for token in shown["tokens"] if token["trained"]) == "yes<|im_end|>"


def test_a_prompt_is_rendered_up_to_the_answer_and_trains_nothing(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps({"prompt": Q, "answer": "42"}) + "\n")
    found = view({**folders, "data": tmp_path}, statistics=True)
    (shown,) = found["rows"]
    text = "".join(token["text"] for token in shown["tokens"])
    assert text == "<|im_start|>user\nwhat?<|im_end|>\n<|im_start|>assistant\n"
    assert (shown["trained"], shown["problem"], shown["about"]) == (0, None, {"answer": "42"})
    assert found["statistics"]["trains_nothing"]["count"] == 0
