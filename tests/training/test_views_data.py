"""Pages of data sets and imports; questions go to the real engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from mlxplatform.core import env as environment
from mlxplatform.core.access import Role, make_user
from registry.models import ModelVersion
from tests.training.data_rows import ASKED, PAIR, chat, make_version, url
from tests.training.runs import make_job
from training import rows
from training.models import Job, JobEvent
from training.views import data

pytestmark = pytest.mark.django_db


@pytest.fixture
def editor() -> User:
    return make_user("grace", Role.EDITOR)


@pytest.fixture
def page(client: Client, editor: User) -> Client:
    client.force_login(editor)
    return client


@pytest.fixture
def open_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A server folder from which may be imported."""
    opened = environment.env().model_copy(update={"import_roots": str(tmp_path)})
    for module in ("training.uploads", "training.views.imports"):
        monkeypatch.setattr(f"{module}.env", lambda: opened)
    return tmp_path


# -- rows ----------------------------------------------------------------------------------------


def test_any_row_of_a_long_file_is_found() -> None:
    version = make_version([chat(f"q{i}", f"a{i}") for i in range(1, 1001)])
    for n in (1, 255, 256, 257, 512, 513, 999, 1000):
        (row,) = rows.read(version, "train", n, 1)
        assert (row.n, row.turns[0].text) == (n, f"q{n}")
    assert rows.read(version, "train", 1001, 5) == []


def test_a_long_text_is_cut_in_the_list_and_whole_alone(page: Client) -> None:
    version = make_version([chat("q", "x" * 5000)])
    listed = page.get(url("dataset", version)).context["rows"][0]
    alone = page.get(url("dataset", version, "?row=1")).context["rows"][0]
    assert (len(listed.turns[1].text), listed.turns[1].more) == (rows.TEXT, 5000 - rows.TEXT)
    assert len(alone.turns[1].text) == 5000 and not alone.is_cut


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (chat("q", "a"), [("user", "q"), ("assistant", "a")]),
        ({"prompt": "p", "completion": "c"}, [("prompt", "p"), ("completion", "c")]),
        ({"text": "t"}, [("text", "t")]),
        (
            {"prompt": [{"role": "user", "content": "q"}], "chosen": "a", "rejected": "b", "margin": 1.0},
            [("user", "q"), ("chosen", "a"), ("rejected", "b")],
        ),
        (
            {"prompt": [{"role": "user", "content": "q"}], "completion": "a", "label": True},
            [("user", "q"), ("completion", "a")],
        ),
        ({"prompt": [{"role": "user", "content": "q"}], "answer": "42"}, [("user", "q"), ("reference", "42")]),
        ("half a line", [("unreadable", "half a line")]),
    ],
)
def test_every_form_of_row_can_be_shown(row: Any, said: list[tuple[str, str]]) -> None:
    assert [(turn.role, turn.text) for turn in rows.turns(row)] == said


def test_what_is_said_of_answers_stands_beside_them(page: Client) -> None:
    version = make_version([PAIR, {"prompt": ASKED, "completion": "a", "label": True}], data_format="preference")
    first, second = page.get(url("dataset", version)).context["rows"]
    assert [turn.note for turn in first.turns] == ["", "better by 2", ""]
    assert [turn.note for turn in second.turns] == ["", "good"]


def test_the_report_counts_pairs_and_tells_how_a_set_is_made(page: Client) -> None:
    answers = {"pairs": 4, "rated": 3, "mean_margin": 1.5, "chosen_longer": 0.75}
    report = {"sentence": "4 rows.", "rows": 4, "bad": 0, "characters": {"mean": 1, "longest": 2}, "answers": answers}
    source = {"kind": "python_docs", "form": "preference"}
    version = make_version([PAIR], data_format="preference", report=report, source=source)
    shown = page.get(url("dataset_report", version)).content.decode()
    assert "Mean margin" in shown and "of 3 pairs" in shown and "How it is made" in shown and "as preference" in shown


def test_pairs_are_looked_at_before_they_are_imported(page: Client) -> None:
    lines = [json.dumps({"prompt": f"q{i}", "chosen": "a", "rejected": "a" if i == 7 else "b"}) for i in range(9)]
    check = page.post("/datasets/new/", {"file": SimpleUploadedFile("pairs.jsonl", "\n".join(lines).encode())})
    shown = page.get(check["Location"].replace("/check/", "/check/report/")).content.decode()
    assert "Reads as preference" in shown and ">8<" in shown and "turn-rejected" in shown and "Mean margin" in shown


def test_rows_are_paged_and_escaped(page: Client) -> None:
    version = make_version([chat("<script>alert(1)</script>", str(i)) for i in range(45)])
    answer = page.get(url("dataset", version, "?from=21"))
    assert [row.n for row in answer.context["rows"]] == list(range(21, 41))
    assert (answer.context["before"], answer.context["after"]) == (1, 41)
    assert b"<script>alert(1)" not in answer.content


@pytest.mark.parametrize("query", ["?from=x", "?from=-4", "?from=99999999999", "?split=../x", "?row=1e9", "?v="])
def test_odd_addresses_show_something_sensible(page: Client, query: str) -> None:
    assert page.get(url("dataset", make_version([chat("q", "a")]), query)).status_code == 200


def test_a_version_is_chosen_by_its_number(page: Client) -> None:
    old = make_version([chat("old", "a")])
    make_version([chat("new", "a")])
    assert b"Version 2</a> is newer" in page.get(url("dataset", old, "?v=1")).content
    assert page.get(url("dataset", old)).context["version"].n == 2
    assert page.get(url("dataset", old, "?v=9")).status_code == 404


def test_rows_that_are_gone_from_the_disk_are_said(page: Client) -> None:
    version = make_version([chat("q", "a")])
    (version.folder / "train.jsonl").unlink()
    answer = page.get(url("dataset", version))
    assert answer.status_code == 404 and b"dataset.file_gone" in answer.content


# -- list, report, used, trash -------------------------------------------------------------------


def test_the_list_shows_the_newest_version_and_counts_trainings(page: Client) -> None:
    make_version([chat("q", "a")])
    make_job(dataset_version=make_version([chat("q", "a"), chat("r", "b")]))
    listed = page.get("/datasets/?q=supp").context["page"].object_list
    assert [(row.dataset.name, row.n, row.used) for row in listed] == [("support", 2, 1)]


def test_the_number_of_queries_does_not_grow(page: Client, django_assert_max_num_queries: Any) -> None:
    for i in range(20):
        make_version([chat("q", "a")], name=f"set {i}")
    with django_assert_max_num_queries(10):
        page.get("/datasets/")


def test_the_report_counts_by_rule_and_names_lines(page: Client) -> None:
    problem = {"code": "data.last_turn", "level": "error", "line": 17, "message": "No answer.", "hint": "Add one."}
    report = {"sentence": "9 rows.", "bad": 30, "counts": {"data.last_turn": 30}, "problems": [problem]}
    found = data.rules(report)
    assert [(rule["count"], rule["first"][0]["line"], rule["rest"]) for rule in found] == [(30, 17, 29)]
    version = make_version([chat("q", "a")], report=report)
    assert b"and 29 more" in page.get(url("dataset_report", version)).content


def test_jobs_that_used_any_version_are_listed(page: Client) -> None:
    old = make_version([chat("q", "a")])
    make_version([chat("q", "a")])
    job = make_job(dataset_version=old)
    assert [row.job for row in page.get(url("dataset_used", old)).context["jobs"]] == [job]


def test_trash_and_undo(page: Client) -> None:
    version = make_version([chat("q", "a")])
    answer = page.post(url("dataset_delete", version), follow=True)
    assert answer.context["undo"] == version.dataset and not answer.context["has_any"]
    assert page.get(url("dataset", version)).status_code == 404
    page.post(url("dataset_restore", version))
    assert page.get(url("dataset", version)).status_code == 200


def test_a_viewer_may_look_and_nothing_else(client: Client) -> None:
    client.force_login(make_user("vic", Role.VIEWER))
    version = make_version([chat("q", "a")])
    assert b"Delete" not in client.get(url("dataset", version)).content
    for name in ("dataset_delete", "dataset_rename"):
        assert client.post(url(name, version), {"name": "x"}).status_code == 403
    assert client.get("/datasets/new/").status_code == client.get("/models/import/").status_code == 403


def test_a_source_is_told_without_its_folder() -> None:
    assert data.source_words({"kind": "file", "path": "/srv/secret/rows.jsonl"}) == "File: rows.jsonl"


# -- import --------------------------------------------------------------------------------------


def test_an_upload_is_looked_at_and_then_imported(page: Client) -> None:
    lines = [json.dumps(chat(f"q{i}", f"a{i}")) for i in range(20)]
    lines[16] = '{"messages": [broken'
    file = SimpleUploadedFile("talk.jsonl", "\n".join(lines).encode())
    check = page.post("/datasets/new/", {"file": file})["Location"]
    report = page.get(check.replace("/check/", "/check/report/")).content.decode()
    assert "20 rows, 1 of them with problems." in report and ">17<" in report
    wish = {"name": "talk", "valid_percent": "10", "test_percent": "0", "skip_bad_rows": "on", "key": "k1"}
    first, second = (page.post(check, wish)["Location"] for _ in range(2))
    job = Job.objects.get()
    assert first == second == reverse("import_job", args=[job.pk])
    assert (job.kind, job.settings["valid_share"], job.settings["skip_bad_rows"]) == ("import_dataset", 0.1, True)


def test_a_draft_cannot_be_made_up(page: Client) -> None:
    assert page.get("/datasets/new/check/?draft=eyJwYXRoIjoiL2V0Yy9wYXNzd2QifQ:1:x").status_code == 404
    assert b"draft.gone" in page.get("/datasets/new/check/report/").content


def test_a_server_file_is_taken_from_an_open_folder_only(page: Client, open_folder: Path) -> None:
    (open_folder / "rows.jsonl").write_text(json.dumps(chat("q", "a")) + "\n")
    good = page.post("/datasets/new/?from=server", {"path": str(open_folder / "rows.jsonl")})
    assert good.status_code == 302 and str(open_folder) not in good["Location"]
    for path in ("/etc/passwd", f"{open_folder}/../../etc/passwd", f"{open_folder}/none.jsonl"):
        bad = page.post("/datasets/new/?from=server", {"path": path})
        assert bad.status_code == 422 and "path" in bad.context["form"].errors


def test_a_file_of_unknown_columns_says_what_it_knows(page: Client) -> None:
    file = SimpleUploadedFile("odd.csv", b"foo,bar\n1,2\n")
    check = page.post("/datasets/new/", {"file": file})["Location"]
    report = page.get(check.replace("/check/", "/check/report/")).content.decode()
    assert "data.unknown_format" in report and "`foo`" in report


def test_a_program_is_no_upload(page: Client) -> None:
    answer = page.post("/datasets/new/", {"file": SimpleUploadedFile("x.pkl", b"\x80")})
    assert answer.status_code == 422 and "file" in answer.context["form"].errors


@pytest.mark.parametrize("form", ["preference", "kto", "prompts"])
def test_every_form_of_the_demo_set_can_be_asked_for(page: Client, form: str) -> None:
    page.post("/datasets/new/?from=docs", {"docs_form": form, "limit": "50", "name": "", "key": "a"})
    job = Job.objects.get()
    assert job.settings["source"] == {"kind": "python_docs", "form": form, "limit": 50}
    assert job.settings["name"] == f"Python docs, {form}"


def test_the_demo_set_and_a_hub_id_are_queued(page: Client) -> None:
    page.post("/datasets/new/?from=docs", {"limit": "50", "name": "", "key": "a"})
    wish = {"repo_id": "org/set", "valid_percent": "5", "test_percent": "0", "key": "b"}
    page.post("/datasets/new/?from=hub", wish)
    kinds = [job.settings["source"]["kind"] for job in Job.objects.order_by("number")]
    assert kinds == ["python_docs", "hub"]
    assert page.post("/datasets/new/?from=hub", {**wish, "repo_id": "../../etc", "key": "c"}).status_code == 422


def test_a_model_is_imported_from_an_upload_or_an_open_folder(page: Client, open_folder: Path) -> None:
    file = SimpleUploadedFile("m.gguf", b"GGUF")
    assert page.post("/models/import/", {"file": file, "key": "a"}).status_code == 302
    (open_folder / "folder").mkdir()
    page.post("/models/import/?from=server", {"path": str(open_folder / "folder"), "name": "mine", "key": "b"})
    assert [job.settings["source"]["kind"] for job in Job.objects.order_by("number")] == ["gguf", "folder"]
    wrong = page.post("/models/import/", {"file": SimpleUploadedFile("m.jsonl", b"x"), "key": "c"})
    assert wrong.status_code == 422


def import_job(state: str, **columns: Any) -> Job:
    settings = {"name": "talk", "source": {"kind": "python_docs", "limit": 50}}
    return make_job(kind="import_dataset", state=state, settings=settings, dataset_version=None, **columns)


def test_an_import_is_watched_and_can_be_cancelled(page: Client) -> None:
    job = import_job("running", phase="read", progress=0.4)
    JobEvent.objects.append(job.pk, [("log", {"message": "file <1>"})])
    shown = page.get(reverse("import_job", args=[job.pk])).content.decode()
    assert f'data-live-job="{job.pk}"' in shown and 'data-live-seq="1"' in shown and "file &lt;1&gt;" in shown
    page.post(reverse("import_cancel", args=[job.pk]))
    job.refresh_from_db()
    assert job.stop_requested_at is not None


def test_a_failed_import_names_lines_and_offers_to_leave_rows_out(page: Client) -> None:
    problem = {"loc": ["a.jsonl", 17], "code": "x", "message": "a.jsonl, line 17: No JSON.", "hint": "Mend it."}
    job = import_job("failed", reason="data.bad_rows", message="1 row.", result={"problems": [problem]})
    answer = page.get(reverse("import_job", args=[job.pk]))
    assert [(p["line"], p["message"]) for p in answer.context["problems"]] == [(17, "No JSON.")]
    page.post(reverse("import_again", args=[job.pk]), {"skip": "1"})
    assert Job.objects.order_by("-number").first().settings["skip_bad_rows"] is True


def test_a_finished_import_leads_to_what_it_made(page: Client) -> None:
    version = make_version([chat("q", "a")])
    job = import_job("succeeded", result={"dataset": str(version.dataset_id)})
    address = reverse("import_job", args=[job.pk])
    assert page.get(address)["Location"] == url("dataset", version)
    assert page.get(address, headers={"HX-Request": "true"})["HX-Redirect"] == url("dataset", version)


def test_a_training_is_no_import(page: Client) -> None:
    assert page.get(reverse("import_job", args=[make_job().pk])).status_code == 404


def test_lineage_names_the_job_and_the_data(page: Client) -> None:
    job = make_job()
    made = ModelVersion.objects.create(model=job.model_version.model, n=99, kind="adapter", path="x", job_id=job.pk)
    shown = page.get(reverse("model_lineage", args=[made.pk])).content.decode()
    assert reverse("job", args=[job.pk]) in shown and str(job.dataset_version) in shown
    assert str(job) in page.get(reverse("model_lineage", args=[job.model_version_id])).content.decode()
