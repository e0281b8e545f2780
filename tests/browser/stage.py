"""Pipelines in every state for a browser to look at: ``python -m tests.browser.stage`` fills ``MLXP_HOME``.

Prints the addresses of what it made by name, as JSON. No worker may run: jobs are moved by hand.
"""

from __future__ import annotations

import json
import os

import django


def fill() -> dict[str, str]:
    """A run in each state worth a look; returns addresses by name."""
    from mlxplatform.core.access import Role, make_user
    from pipelines import services
    from pipelines.models import PipelineRun
    from tests.pipelines.scenes import Scene, make_data

    scene = Scene(make_user("ada", Role.ADMIN, superuser=True))
    make_user("vera", Role.VIEWER)
    made: dict[str, PipelineRun] = {}

    made["succeeded"], step = scene.approval()
    services.approve(scene.owner, step, step.digest, "Answers are shorter and right.")
    services.advance(step.run_id)
    scene.stretch(made["succeeded"], 26)

    made["failed"] = scene.start("aligned_model")
    scene.succeeds(made["failed"], "sft")
    scene.fails(made["failed"], "reward")
    scene.stretch(made["failed"], 9)

    made["running"] = scene.start("research")
    for name in ("reward", "dpo"):
        scene.succeeds(made["running"], name)
    scene.succeeds(made["running"], "measure_dpo", loss=1.8, reward=0.42)
    scene.goes_on(made["running"], "ppo")
    scene.stretch(made["running"], 14)

    made["paused"] = services.pause(scene.owner, scene.start("efficient_llm"))
    made["queued"] = scene.start("chatbot")
    scene.data = make_data("Newer tickets", "chat")  # so that nothing is reused
    made["approval"], _ = scene.approval()
    scene.stretch(made["approval"], 18)
    return {name: f"/pipelines/runs/{run.pk}/" for name, run in made.items()} | {
        "pipeline": f"/pipelines/{made['succeeded'].version.pipeline_id}/"
    }


def main() -> None:
    """Fill the data folder and say where everything is."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlxplatform.settings")
    django.setup()
    print(json.dumps(fill()))


if __name__ == "__main__":
    main()
