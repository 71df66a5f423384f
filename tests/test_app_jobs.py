"""The worker, the command `app`, and the app in a notebook."""

from __future__ import annotations

import threading

import pytest

from spherodetect.app.errors import Busy, NotThere
from spherodetect.app.jobs import CANCELLED, DONE, FAILED, Worker
from spherodetect.app.store.database import Database
from spherodetect.cli import main
from spherodetect.errors import SpherodetectError
from spherodetect.report.results import Result


@pytest.fixture
def worker():
    made = Worker()
    yield made
    made.stop()


def steps_of(name, log, n, gate=None):
    def work(job):
        for k in range(n):
            if gate is not None:
                gate.wait(10)
            log.append((name, k))
            job.progress(k + 1, n, name)
            yield
        job.result = name

    return work


def test_jobs_take_turns_so_a_short_one_does_not_wait_for_a_long_one(worker):
    log, gate = [], threading.Event()
    long = worker.submit("x", "long", steps_of("long", log, 20, gate))
    short = worker.submit("x", "short", steps_of("short", log, 2))
    gate.set()
    assert short.wait(10)
    assert long.wait(10)
    assert (long.state, short.state, long.result) == (DONE, DONE, "long")
    assert log.index(("short", 1)) < log.index(("long", 19))
    assert [k for name, k in log if name == "long"] == list(range(20))


def test_one_runs_four_wait_and_the_next_is_told_when_to_come(worker):
    gate = threading.Event()
    jobs = [worker.submit("x", "", steps_of("x", [], 1, gate)) for _ in range(5)]
    with pytest.raises(Busy) as refused:
        worker.submit("x", "", steps_of("x", [], 1))
    assert refused.value.retry_s >= 1
    gate.set()
    assert all(job.wait(10) for job in jobs)
    assert worker.submit("x", "", steps_of("x", [], 1)).wait(10)


def test_cancel_keeps_what_was_done_and_ends_what_waits(worker):
    log, gate = [], threading.Event()
    running = worker.submit("x", "", steps_of("run", log, 50, gate))
    waiting = worker.submit("x", "", steps_of("wait", log, 1, gate))
    worker.cancel(waiting.id)
    assert waiting.wait(10)
    worker.cancel(running.id)
    gate.set()
    assert running.wait(10)
    assert (running.state, waiting.state) == (CANCELLED, CANCELLED)
    assert len(log) < 50
    assert ("wait", 0) not in log


def test_a_failed_job_says_why_and_the_next_one_runs(worker, caplog):
    def expected(job):
        raise SpherodetectError("expected a, got b")
        yield

    def unexpected(job):
        raise ZeroDivisionError
        yield

    first, second = worker.submit("x", "", expected), worker.submit("x", "", unexpected)
    third = worker.submit("x", "", steps_of("x", [], 1))
    assert all(job.wait(10) for job in (first, second, third))
    assert (first.state, first.error) == (FAILED, "expected a, got b")
    assert second.state == FAILED
    assert "ZeroDivision" not in second.error
    assert third.state == DONE
    with pytest.raises(NotThere):
        worker.get("j99")


def test_the_command_copies_a_project_and_refuses_what_is_none(tmp_path, capsys):
    project = tmp_path / "project"
    assert main(["app", str(project), "--backup", str(tmp_path / "copy.sqlite")]) == 2
    assert "expected a project" in capsys.readouterr().err
    project.mkdir()
    Database(project).close()
    assert main(["app", str(project), "--backup", str(tmp_path / "copy.sqlite")]) == 0
    assert (tmp_path / "copy.sqlite").read_bytes().startswith(b"SQLite format 3")
    assert main(["app", str(project), "--backup", str(tmp_path / "copy.sqlite")]) == 2


def test_beyond_the_loopback_a_token_must_be_stated(tmp_path, capsys, monkeypatch):
    pytest.importorskip("fastapi", reason="needs the extra [app]")
    monkeypatch.delenv("SPHERODETECT_TOKEN", raising=False)
    assert main(["app", str(tmp_path), "--host", "0.0.0.0", "--no-browser"]) == 2
    assert "SPHERODETECT_TOKEN" in capsys.readouterr().err
    monkeypatch.setenv("SPHERODETECT_TOKEN", "short")
    assert main(["app", str(tmp_path), "--no-browser"]) == 2
    assert "16 characters" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["app", "--port", "99999"])


def test_the_command_says_which_extra_it_needs(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["app", str(tmp_path)]) == 2
    assert "spherodetect[app]" in capsys.readouterr().err


def test_the_token_of_a_project_is_kept_and_only_its_owners(tmp_path):
    from spherodetect.app.project import Project

    project = Project(tmp_path)
    token = project.token()
    assert len(token) > 30
    assert project.token() == token
    assert (tmp_path / ".spherodetect" / "app-token").stat().st_mode & 0o077 == 0
    assert project.id == project.id
    assert project.id != Project(tmp_path / "other").id


def test_a_notebook_shows_a_frame_below_its_own_server(tmp_path):
    pytest.importorskip("fastapi", reason="needs the extra [app]")
    from spherodetect.app import show
    from spherodetect.app.notebook import frame_address

    server = show(tmp_path)
    try:
        assert server.url.startswith("http://127.0.0.1:")
        assert show(tmp_path) is server
        hub = frame_address(server, {"JUPYTERHUB_SERVICE_PREFIX": "/user/anna/"})
        assert hub.startswith(f"/user/anna/proxy/{server.port}/?token=")
        assert "frame=1" in hub
    finally:
        server.stop()
    with pytest.raises(SpherodetectError, match="pass out"):
        show(Result())
