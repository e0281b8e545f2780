"""The form is the schema: every setting and catalog row has a control, and texts become the same settings."""

from __future__ import annotations

import pytest

from training.engine.config.training import TrainSettings
from training.form_fields import BLOCKS, all_fields, fields_of, label_of, sentence
from training.forms import EFFORTS, SettingsForm, prefilled

ROWS = [(path, row.name) for path, catalog in BLOCKS.items() for row in catalog]


def settings(**texts: str) -> TrainSettings:
    form = SettingsForm({key.replace("__", "."): text for key, text in texts.items()}, rows=600)
    assert form.is_valid(), form.problems
    assert form.settings is not None
    return form.settings


@pytest.mark.parametrize(("path", "row"), ROWS)
def test_every_catalog_row_has_a_control_with_words_for_each_setting(path: str, row: str) -> None:
    block = SettingsForm({path: row}).block(path)
    assert {f.path.split(".")[1] for f in block.fields} == set(BLOCKS[path][row].settings.model_fields) - {"name"}
    assert all(f.label and f.help for f in block.fields)


def test_every_setting_outside_the_blocks_has_a_control_and_a_level() -> None:
    form = SettingsForm({})
    drawn = [f.path for level in ("adjust", "expert") for f in form.fields(level)]
    assert sorted(drawn) == sorted(set(TrainSettings.model_fields) - set(BLOCKS))


@pytest.mark.parametrize(("path", "row"), ROWS)
def test_an_untouched_form_asks_for_the_defaults(path: str, row: str) -> None:
    made = getattr(settings(**{path: row}), path)
    assert made == BLOCKS[path][row].settings(name=row)


@pytest.mark.parametrize(("path", "row"), ROWS)
def test_settings_survive_the_way_into_the_form_and_back(path: str, row: str) -> None:
    before = settings(**{path: row, "seed": "7", "batch_size": "2"})
    assert settings(**prefilled(before.model_dump(mode="json"), 600)) == before


def test_limits_of_the_schema_become_limits_of_the_input() -> None:
    rank = next(f for f in SettingsForm({}).block("adapter").fields if f.path == "adapter.rank").controls[0]
    assert (rank.kind, rank.low, rank.high, rank.step, rank.default) == ("number", 1, 1024, "1", "16")


def test_a_pair_has_two_controls_a_flag_a_box_and_a_list_lines() -> None:
    kinds = {
        f.path: [c.kind for c in f.controls] for f in fields_of(BLOCKS["optimizer"]["adamw"].settings, "optimizer.")
    }
    assert kinds["optimizer.betas"] == ["number", "number"]
    assert kinds["optimizer.bias_correction"] == ["flag"]
    assert settings(sample_prompts="one?\r\n\r\ntwo?").sample_prompts == ["one?", "two?"]


def test_all_problems_come_at_once_beside_their_fields() -> None:
    form = SettingsForm({"learning_rate": "5", "batch_size": "many", "optimizer.betas.1": "2", "adapter": "magic"})
    assert not form.is_valid()
    assert {p.loc[0] for p in form.problems} == {"learning_rate", "batch_size", "optimizer", "adapter"}
    betas = next(f for f in form.block("optimizer").fields if f.path == "optimizer.betas")
    assert len(betas.problems) == 1
    assert form.block("adapter").problems[0].code == "adapter.unknown"


def test_a_problem_is_told_by_the_settings_label_not_twice_by_its_path() -> None:
    form = SettingsForm({"optimizer.betas.1": "2"})
    assert not form.is_valid()
    (problem,) = form.problems
    assert sentence(problem).startswith("Input should be")
    assert label_of("optimizer.betas.1") == "Betas"


@pytest.mark.parametrize(
    ("effort", "rows", "expected"),
    [
        ("taste", 600, {"iters": 100, "epochs": None, "patience": 0}),  # 150 updates in an epoch
        ("taste", 80, {"iters": None, "epochs": 1, "patience": 0}),  # 20 updates
        ("standard", 600, {"iters": None, "epochs": 3, "patience": 3}),
        ("long", 600, {"iters": None, "epochs": 10, "patience": 5}),
    ],
)
def test_presets(effort: str, rows: int, expected: dict[str, float | None]) -> None:
    form = SettingsForm({"effort": effort}, rows)
    assert form.is_valid()
    assert {key: getattr(form.settings, key) for key in expected} == expected


def test_a_typed_length_wins_over_the_preset() -> None:
    made = settings(effort="long", iters="40")
    assert (made.iters, made.epochs, made.patience) == (40, None, 5)


def test_an_earlier_job_of_a_preset_is_recognised_as_that_preset() -> None:
    for effort in EFFORTS:
        made = settings(effort=effort).model_dump(mode="json")
        assert prefilled(made, 600)["effort"] == effort


def test_choosing_another_row_keeps_what_was_typed_and_drops_old_defaults() -> None:
    form = SettingsForm({"optimizer": "sgd", "optimizer.was": "adamw", "optimizer.weight_decay": "0.01"})
    assert form.is_valid()
    assert form.settings.optimizer.weight_decay == 0
    typed = SettingsForm({"optimizer": "sgd", "optimizer.was": "adamw", "optimizer.weight_decay": "0.2"})
    assert typed.texts["optimizer.weight_decay"] == "0.2"


def test_what_was_typed_for_a_method_stands_there_again_when_it_comes_back() -> None:
    there = SettingsForm({"method": "sft", "method.was": "dpo", "method.beta": "0.3", "method.loss_type": "ipo"})
    kept = dict(there.block("method").kept)
    assert kept == {"kept.dpo.method.beta": "0.3", "kept.dpo.method.loss_type": "ipo"}
    back = SettingsForm({"method": "dpo", "method.was": "sft", **kept})
    assert back.is_valid()
    assert (back.settings.method.beta, back.settings.method.loss_type) == (0.3, "ipo")
    assert back.block("method").kept == ()


def test_another_method_has_its_own_beta() -> None:
    form = SettingsForm({"method": "simpo", "method.was": "dpo", "method.beta": "0.3"})
    assert form.is_valid()
    assert form.settings.method.beta == 2.0


def test_a_typed_default_is_forgotten_when_the_row_is_left() -> None:
    kept = {"kept.dpo.method.beta": "0.3"}
    form = SettingsForm({"method": "sft", "method.was": "dpo", "method.beta": "0.1", **kept})
    assert form.block("method").kept == ()


def test_what_a_control_cannot_show_is_not_carried_over() -> None:
    form = SettingsForm({"lr_schedule": "step", "lr_schedule.was": "cosine", "lr_schedule.warmup_ratio": "0.9"})
    assert "lr_schedule.warmup_ratio" not in form.texts
    assert form.block("lr_schedule").kept == (("kept.cosine.lr_schedule.warmup_ratio", "0.9"),)


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("parameter_groups", "*.lora_b lr=4\n\n*.lora_a speed=2", "Line 3, *.lora_a speed=2: "),
        ("adapter.rank_pattern", "self_attn.q_proj=32\nself_attn.k_proj=0", "Line 2, self_attn.k_proj=0: "),
    ],
)
def test_a_problem_of_a_line_names_it(name: str, text: str, line: str) -> None:
    form = SettingsForm({name: text})
    assert not form.is_valid()
    every = [*form.fields(), *form.block("adapter").fields]
    (sentence,) = next(f for f in every if f.path == name).sentences
    assert sentence.startswith(line)


def test_an_emptied_box_of_rules_means_no_rule() -> None:
    emptied = {"method": "grpo", "method.rewards": "", "method.reward_model_weight": "1"}
    assert settings(**emptied).method.rewards == []
    there = SettingsForm({**emptied, "method": "sft", "method.was": "grpo"})
    assert dict(there.block("method").kept)["kept.grpo.method.rewards"] == ""


def test_boxes_of_a_grammar_have_an_example_that_is_right() -> None:
    examples = {f.path: f.example for fields in all_fields().values() for f in fields if f.example}
    assert {"parameter_groups", "adapter.rank_pattern", "method.rewards"} <= set(examples)
    for path, example in examples.items():
        method = {"method": "grpo"} if path.startswith("method.") else {}
        assert SettingsForm({**method, path: example}).is_valid(), path


def test_a_changed_field_is_marked_and_an_equal_number_is_not() -> None:
    changed = {f.path for f in SettingsForm({"learning_rate": "1e-4", "seed": "43"}).fields() if f.changed}
    assert changed == {"seed"}
