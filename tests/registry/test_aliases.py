"""Aliases: they move, every move is told, and one click takes it back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client

from mlxplatform.core.access import Role, make_user
from mlxplatform.core.errors import Conflict, Forbidden, Invalid, NotFound
from mlxplatform.core.models import AuditEvent
from registry import aliases
from registry.models import Alias, ModelVersion, RegisteredModel

pytestmark = pytest.mark.django_db


@pytest.fixture
def editor() -> Any:
    return make_user("alice", Role.EDITOR)


@pytest.fixture
def model() -> RegisteredModel:
    """A model with three versions."""
    model = RegisteredModel.objects.create(name="m")
    for n in (1, 2, 3):
        ModelVersion.objects.create(model=model, n=n, kind="base", path=f"models/{n}")
    return model


def move(editor: Any, model: RegisteredModel, n: int, name: str = "champion") -> Alias:
    return aliases.set_alias(editor, model.versions.get(n=n), name)


def told(model: RegisteredModel) -> list[tuple[str, int | None, int | None]]:
    return [(one.alias, one.before, one.after) for one in aliases.moves(model)]


def back(editor: Any, model: RegisteredModel, name: str = "champion") -> Alias | None:
    return aliases.move_back(editor, model, name, next(iter(aliases.moves(model, name))).id)


def test_an_alias_moves_and_every_move_is_told(editor: Any, model: RegisteredModel) -> None:
    for n in (1, 2, 2):
        move(editor, model, n)
    assert Alias.objects.get().version.n == 2
    assert told(model) == [("champion", 1, 2), ("champion", None, 1)]
    assert {one.actor for one in aliases.moves(model)} == {"alice"}


def test_one_step_back_and_forward_again(editor: Any, model: RegisteredModel) -> None:
    move(editor, model, 1)
    move(editor, model, 3)
    assert [back(editor, model).version.n for _ in range(3)] == [1, 3, 1]
    assert len(told(model)) == 5


def test_the_first_move_is_undone_by_taking_the_alias_away(editor: Any, model: RegisteredModel) -> None:
    move(editor, model, 1)
    assert back(editor, model) is None and not Alias.objects.exists()
    assert back(editor, model).version.n == 1


def test_a_move_that_is_not_the_last_is_not_undone(editor: Any, model: RegisteredModel) -> None:
    move(editor, model, 1)
    seen = next(iter(aliases.moves(model))).id
    move(editor, model, 2)
    with pytest.raises(Conflict, match="alice has moved 'champion' since, to v2"):
        aliases.move_back(editor, model, "champion", seen)


def test_there_is_no_way_back_to_a_version_that_is_gone(editor: Any, model: RegisteredModel) -> None:
    move(editor, model, 1)
    move(editor, model, 2)
    model.versions.get(n=1).delete()
    with pytest.raises(Conflict, match="v1 of m is not there"):
        back(editor, model)


def test_what_was_never_moved_has_no_way_back(editor: Any, model: RegisteredModel) -> None:
    with pytest.raises(NotFound):
        aliases.move_back(editor, model, "champion", 1)


def test_aliases_of_two_models_do_not_mix(editor: Any, model: RegisteredModel) -> None:
    other = RegisteredModel.objects.create(name="other")
    move(editor, model, 1)
    assert told(other) == []


@pytest.mark.parametrize("name", ["", "Upper", "a b", "-x", "a" * 41])
def test_a_strange_alias_is_refused(editor: Any, model: RegisteredModel, name: str) -> None:
    with pytest.raises(Invalid):
        move(editor, model, 1, name)


def test_a_viewer_points_nothing(editor: Any, model: RegisteredModel) -> None:
    viewer = make_user("v", Role.VIEWER)
    row = move(editor, model, 1)
    for act in (lambda: move(viewer, model, 2), lambda: aliases.remove_alias(viewer, row), lambda: back(viewer, model)):
        with pytest.raises(Forbidden):
            act()
    assert told(model) == [("champion", None, 1)]


# -- over the API and on the pages -------------------------------------------------------------------


def put(client: Client, model: RegisteredModel, name: str, n: int) -> Any:
    return client.put(f"/api/v1/models/{model.pk}/aliases/{name}", json.dumps({"version": n}), "application/json")


def test_the_api_sets_lists_and_removes(client: Client, editor: Any, model: RegisteredModel) -> None:
    client.force_login(editor)
    assert put(client, model, "champion", 2).json()["version"] == 2
    assert client.get(f"/api/v1/models/{model.pk}").json()["aliases"] == {"champion": 2}
    assert client.delete(f"/api/v1/models/{model.pk}/aliases/champion").status_code == 204
    listed = client.get(f"/api/v1/models/{model.pk}/alias-moves", {"alias": "champion", "limit": 1}).json()
    assert (listed["items"][0]["before"], listed["items"][0]["after"]) == (2, None) and listed["next"]


def test_the_api_names_what_is_wrong(client: Client, editor: Any, model: RegisteredModel) -> None:
    client.force_login(editor)
    answers = [
        put(client, model, "champion", 9),
        put(client, model, "Strange!", 1),
        client.delete(f"/api/v1/models/{model.pk}/aliases/x"),
    ]
    codes = [answer.json()["errors"][0]["code"] for answer in answers]
    assert codes == ["model.unknown", "alias.name", "alias.unknown"]


def test_a_viewer_sets_nothing_over_the_api(client: Client, model: RegisteredModel) -> None:
    client.force_login(make_user("v", Role.VIEWER))
    assert put(client, model, "champion", 1).status_code == 403
    assert not AuditEvent.objects.filter(action=aliases.SET).exists()


def test_the_page_moves_takes_back_and_removes(client: Client, editor: Any, model: RegisteredModel) -> None:
    client.force_login(editor)
    page = f"/models/{model.pk}/"
    for n in ("1", "3"):
        client.post(f"{page}aliases/", {"name": "champion", "version": n})
    shown = client.get(page)
    assert b"Back to v1" in shown.content and b"alice" in shown.content
    ((_, last),) = shown.context["aliases"]
    assert client.post(f"{page}aliases/champion/back/", {"move": last.id}).status_code == 302
    assert Alias.objects.get().version.n == 1
    client.post(f"{page}aliases/champion/delete/")
    gone = client.get(page)
    assert not Alias.objects.exists() and b"Back to v1" in gone.content and b"nowhere" in gone.content


def test_the_version_page_asks_before_an_alias_leaves_another(
    client: Client, editor: Any, model: RegisteredModel
) -> None:
    client.force_login(editor)
    move(editor, model, 1)
    content = client.get(f"/models/versions/{model.versions.get(n=2).pk}/").content
    assert b"Move champion to v2?" in content and b"Make challenger" in content


@pytest.mark.parametrize("wrong", [{}, {"name": "x", "version": "nine"}, {"name": "x", "version": "99"}])
def test_the_page_refuses_an_unknown_version(
    client: Client, editor: Any, model: RegisteredModel, wrong: dict[str, str]
) -> None:
    client.force_login(editor)
    assert client.post(f"/models/{model.pk}/aliases/", wrong).status_code == 404
