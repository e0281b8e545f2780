"""The two tabs that need a tokenizer; the counts and masks come from the real engine."""

from __future__ import annotations

import uuid

import pytest
from django.test import Client

from mlxplatform.core.access import Role, make_user
from registry.models import ModelVersion, RegisteredModel
from tests.fakes import tiny
from tests.training.data_rows import ASKED, PAIR, chat, make_version, url
from training.views import tokens

pytestmark = pytest.mark.django_db


@pytest.fixture
def page(client: Client) -> Client:
    client.force_login(make_user("grace", Role.EDITOR))
    return client


@pytest.fixture
def model() -> ModelVersion:
    """A real tokenizer in a model folder."""
    held, _ = RegisteredModel.objects.get_or_create(name="tiny")
    version = ModelVersion.objects.create(model=held, n=1, kind="base", path=f"models/{uuid.uuid4()}")
    tiny.tokenizer(version.folder)
    return version


def test_what_is_trained_is_what_the_engine_says(page: Client, model: ModelVersion) -> None:
    version = make_version([chat("hi", "on the stone")])
    answer = page.get(url("dataset_trained", version))
    looks = [(run.look, "".join(t["text"] for t in run.tokens)) for run in answer.context["parts"][0].runs]
    assert looks == [
        ("plain", "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"),
        ("trained", "on the stone<|im_end|>"),
        ("plain", "\n"),
    ]
    trained = sum(len(run.tokens) for run in answer.context["parts"][0].runs if run.look == "trained")
    assert f"trains <strong>{trained}</strong>" in answer.content.decode()


def test_both_answers_of_a_pair_are_shown(page: Client, model: ModelVersion) -> None:
    version = make_version([PAIR], data_format="preference")
    answer = page.get(url("dataset_trained", version))
    trained = {
        part.name: "".join(t["text"] for run in part.runs if run.look == "trained" for t in run.tokens)
        for part in answer.context["parts"]
    }
    assert trained == {"chosen": "yes<|im_end|>", "rejected": "no<|im_end|>"}
    shown = answer.content.decode()
    assert "better by 2" in shown and 'id="train_on"' not in shown


def test_a_judged_answer_is_shown_with_its_label(page: Client, model: ModelVersion) -> None:
    version = make_version([{"prompt": ASKED, "completion": "no", "label": False}], data_format="kto")
    answer = page.get(url("dataset_trained", version))
    assert '<span class="tag">bad</span>' in answer.content.decode()
    assert [part.name for part in answer.context["parts"]] == ["completion"]


def test_a_prompt_is_shown_as_the_model_is_given_it(page: Client, model: ModelVersion) -> None:
    version = make_version([{"prompt": ASKED, "answer": "42"}], data_format="prompts")
    answer = page.get(url("dataset_trained", version))
    (part,) = answer.context["parts"]
    assert "".join(t["text"] for t in part.runs[0].tokens).endswith("<|im_start|>assistant\n")
    assert part.trained == 0 and "is-bad" not in answer.content.decode()
    assert "Reference answer" in answer.content.decode()


def test_counts_of_pairs_are_of_sequences(page: Client, model: ModelVersion) -> None:
    version = make_version([PAIR] * 3, data_format="preference")
    answer = page.get(url("dataset_statistics", version))
    assert sum(bar.rows for bar in answer.context["bars"]) == 6
    assert "Mean sequence" in answer.content.decode()


def test_a_row_that_trains_nothing_is_red(page: Client, model: ModelVersion) -> None:
    version = make_version([chat("a long question", "answer")])
    shown = page.get(url("dataset_trained", version, "?length=8")).content.decode()
    assert "is-bad" in shown and "No token of the row is trained" in shown and "tok cut" in shown


def test_rows_are_picked_by_length_number_and_chance(page: Client, model: ModelVersion) -> None:
    version = make_version([chat("q", "a" * n) for n in (5, 50, 20)])
    assert page.get(url("dataset_trained", version, "?pick=longest")).context["row"]["row"] == 2
    assert page.get(url("dataset_trained", version, "?row=99")).context["row"]["row"] == 3
    assert "&row=" in page.get(url("dataset_trained", version, "?pick=random"))["Location"]


def test_counts_cover_all_rows(page: Client, model: ModelVersion) -> None:
    version = make_version([chat("q", "a" * n) for n in range(1, 31)])
    answer = page.get(url("dataset_statistics", version, "?length=32"))
    counts, bars = answer.context["counts"], answer.context["bars"]
    assert sum(bar.rows for bar in bars) == counts["rows"] == 30
    assert 0 < answer.context["cut_here"] < 1
    assert answer.content.decode().count("<rect") == len(bars)


def test_a_broken_tokenizer_is_said_in_the_page(page: Client, model: ModelVersion) -> None:
    (model.folder / "tokenizer.json").write_text("{")
    version = make_version([chat("q", "a")])
    for name in ("dataset_trained", "dataset_statistics"):
        answer = page.get(url(name, version))
        assert answer.status_code == 200 and answer.context["error"].code.startswith("model.")


def test_without_a_model_the_tabs_say_so(page: Client) -> None:
    version = make_version([chat("q", "a")])
    for name in ("dataset_tokens", "dataset_trained"):
        assert b"Import a base model first" in page.get(url(name, version)).content


def test_the_histogram_leaves_out_empty_ends() -> None:
    bars = tokens.histogram([[16, 0], [32, 0], [64, 4], [96, 2], [128, 0], [None, 0]])
    assert [(bar.span, bar.rows, bar.label) for bar in bars] == [
        ("17 to 32 tokens", 0, "32"),
        ("33 to 64 tokens", 4, "64"),
        ("65 to 96 tokens", 2, ""),
        ("97 to 128 tokens", 0, "128"),
    ]
    assert tokens.histogram([[16, 0]]) == [] and bars[1].height == 2 * bars[2].height == 78
