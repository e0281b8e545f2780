"""A training is judged by its own goal: no validation loss where rewards count."""

from __future__ import annotations

import pytest
from django.test import Client

from mlxplatform.core.access import Role, make_user
from tests.training.runs import make_job
from training.engine.catalog.methods import METHODS
from training.goals import goal_of, is_better, method_of
from training.models import Checkpoint, Job, Metric
from training.series import Curves, Point, rescore, truncate
from training.summary import summary

pytestmark = pytest.mark.django_db


def policy_job(rewards: tuple[float, ...] = (-0.5, 0.4, 0.1)) -> Job:
    """A finished PPO job with an evaluation and a checkpoint at steps 0, 10, 20."""
    job = make_job(settings={"method": {"name": "ppo"}, "adapter": {"name": "lora"}}, state="succeeded", step=20)
    curves = Curves.of(job.pk)
    for n, reward in enumerate(rewards):
        for name, value in (("val_reward", reward), ("reward", reward - 0.1), ("train_loss", 0.3)):
            curves.accept(Point(name, 10 * n, value, 0.0))
        if n:
            Checkpoint.objects.create(job=job, attempt=1, step=10 * n, path=f"checkpoints/{n}", sha256="0" * 64)
    curves.save()
    rescore(job.pk)
    return job


@pytest.mark.parametrize(
    ("settings", "result", "goal"),
    [
        ({}, {}, "loss"),
        ({"method": "dpo"}, {}, "loss"),
        ({"method": {"name": "grpo"}}, {}, "reward"),
        ({"method": {"name": "gone"}}, {"goal": "reward"}, "reward"),
    ],
)
def test_the_goal_comes_from_the_method_and_the_last_word(settings, result, goal) -> None:
    job = make_job(settings=settings, result=result)
    assert goal_of(job) == goal
    assert method_of(job) in METHODS


def test_more_reward_and_less_loss_are_better() -> None:
    assert is_better("val_reward", 0.2, 0.1)
    assert is_better("val_loss", 0.1, 0.2)
    assert not is_better("val_reward_margin", 0.1, 0.2)
    assert is_better("anything", 5.0, None)


def test_the_best_of_a_reward_is_the_greatest_also_after_a_cut() -> None:
    job = policy_job()
    metric = Metric.objects.get(job=job, name="val_reward")
    assert (metric.best_step, metric.best_value) == (10, 0.4)
    truncate(job, 5)
    metric.refresh_from_db()
    assert (metric.best_step, metric.best_value) == (0, -0.5)


def test_the_best_checkpoint_is_the_one_with_the_greatest_reward() -> None:
    job = policy_job()
    assert list(job.checkpoints.filter(is_best=True).values_list("step", flat=True)) == [10]


def test_the_change_of_a_reward_is_a_difference() -> None:
    about = summary(policy_job())
    assert (about.change, about.look, about.goal_label) == (0.9, "better", "Reward on held-out prompts")
    assert summary(policy_job((0.4, 0.3))).change == 0


@pytest.mark.parametrize("tab", ["", "charts/", "checkpoints/"])
def test_no_page_of_a_policy_job_speaks_of_a_validation_loss(client: Client, tab: str) -> None:
    job = policy_job()
    client.force_login(make_user("ed", Role.EDITOR))
    page = client.get(f"/jobs/{job.pk}/{tab}").content.decode()
    assert "alidation loss" not in page
    assert "Reward on held-out prompts" in page
    assert "PPO, LoRA" in page


def test_the_lists_show_the_reward(client: Client) -> None:
    job = policy_job()
    client.force_login(make_user("ed", Role.EDITOR))
    for url in ("/jobs/", "/", f"/datasets/{job.dataset_version.dataset_id}/used/"):
        page = client.get(url).content.decode()
        assert "0.4" in page, url
        assert "+0.900" in page, url
        assert "validation loss" not in page, url


def test_the_first_charts_of_the_overview_are_the_methods(client: Client) -> None:
    client.force_login(make_user("ed", Role.EDITOR))
    page = client.get(f"/jobs/{policy_job().pk}/").content.decode()
    assert 'data-keys="reward,val_reward"' in page
    assert 'data-best="val_reward" data-better="more"' in page
    pairs = make_job(settings={"method": {"name": "dpo"}})
    page = client.get(f"/jobs/{pairs.pk}/").content.decode()
    assert 'data-keys="train_loss,val_loss"' in page
    assert 'data-keys="train_reward_margin,val_reward_margin"' in page
