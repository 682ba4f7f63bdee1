"""The tour really cleans up, and its exit code tells."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ayb_jobs.cli.commands.demo import program_as_called
from ayb_jobs.lab.demo.tour import DemoJob, enqueue_jobs, jobs_now, make_tables, only_valid_rows_left
from ayb_jobs.storage.database import Connection
from tests import forked
from tests.eventually import eventually

PROGRAM = [*forked.MODULE, "demo"]


@pytest.mark.parametrize(
    ("called", "found", "words"),
    [
        (".venv/bin/ayb-jobs", None, ".venv/bin/ayb-jobs"),
        ("a b/ayb", "/usr/bin/ayb", "'a b/ayb'"),
        ("/usr/bin/ayb", "/usr/bin/ayb", "ayb"),
        ("/x/ayb_jobs/__main__.py", None, f"{sys.executable} -m ayb_jobs"),
    ],
)
def test_hints_call_the_program_as_it_was_called(
    monkeypatch: pytest.MonkeyPatch, called: str, found: str | None, words: str
) -> None:
    monkeypatch.setattr("sys.argv", [called, "demo"])
    monkeypatch.setattr("shutil.which", lambda _name: found)
    assert program_as_called() == words


def test_the_tour_completes_eight_jobs_and_says_so(tmp_path: Path) -> None:
    done = forked.run([*PROGRAM, "--once", "--json"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    jobs = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(jobs) == 8
    for job in jobs:
        assert set(job) == {"job", "state", "attempts", "records_processed", "expected", "seconds"}
        assert (job["state"], job["attempts"]) == ("completed", 1)
        assert job["records_processed"] == job["expected"]
    assert sum(job["expected"] for job in jobs) == 90_000
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def _hang_up_as_usual() -> Iterator[None]:
    """Let what is started meanwhile be ended by SIGHUP, also where nohup runs the tests."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("_hang_up_as_usual")
# What ends a command by the one signal ends it by the others: `end_as_by_ctrl_c`, and `test_stopping.py`.
@pytest.mark.parametrize(
    "number", [*(pytest.param(each, marks=pytest.mark.slow) for each in (signal.SIGINT, signal.SIGTERM)), signal.SIGHUP]
)
def test_the_tour_leaves_the_daemon_up_until_it_is_stopped(tmp_path: Path, number: signal.Signals) -> None:
    output = tmp_path / "output"
    with output.open("wb") as file, subprocess.Popen(PROGRAM, cwd=tmp_path, stdout=file, stderr=file) as tour:
        eventually(lambda: "The daemon is up." in output.read_text(), within_s=60)
        assert "exactly the expired rows are gone" in output.read_text()
        hint = re.search(r"(?m)^ +(\S.*) jobs list$", output.read_text())
        assert hint is not None
        assert subprocess.run(["bash", "-c", hint[0]], cwd=tmp_path, check=False).returncode == 0
        asked = hint[0].replace("jobs list", "schedules list --json")
        schedules = subprocess.run(["bash", "-c", asked], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert set(re.findall(r'"enabled": ?(true|false)', schedules.stdout)) == {"false"}  # so that none is overdue
        log_file = Path(output.read_text().partition("tail -f ")[2].splitlines()[0])
        worker = json.loads(log_file.read_text().splitlines()[0])["worker"]
        daemon = int(worker.split(":")[1])
        os.kill(daemon, 0)
        tour.send_signal(number)
        assert tour.wait(30) == 0
    assert not log_file.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(daemon, 0)


def test_what_is_left_undone_is_no_success(conn: Connection) -> None:
    make_tables(conn)
    ids = enqueue_jobs(conn)
    jobs = jobs_now(conn, ids)
    assert len(jobs) == 8
    assert not any(job.succeeded or job.ended for job in jobs)
    assert not only_valid_rows_left(conn)


def test_a_job_that_deleted_too_few_rows_did_not_succeed() -> None:
    job = DemoJob(job="j", state="completed", attempts=1, records_processed=8_999, expected=9_000, seconds=1.0)
    assert job.ended
    assert not job.succeeded


def test_a_sick_database_shows_many_findings(tmp_path: Path) -> None:
    done = forked.run([*PROGRAM, "--sick", "--once"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for words in (
        "due jobs wait that no live daemon can run", "jobs failed in the last hour", "`nightly_report` has not succeeded for",
        "Daemon `api-3:4003:eccbc87e4b5c` was last heard of", "`exports` has been paused for 5 h by anna", "index of ours is missing",
        "Autovacuum is off for _ayb_job_fires", "Daemons of 2 versions are alive", "Some of the newest jobs of `charge_card` have one attempt alone",
        "The clock of daemon api-2", "1 batch is not sealed", "Schedule `stocktaking_of_2025` never fires again",
        "The sequence of attempts stands at 1", "Everybody may use",
    ):  # fmt: skip
        assert words in done.stdout


def test_the_sick_demo_serves_its_pages_and_says_what_comes_later(tmp_path: Path) -> None:
    output = tmp_path / "output"
    with (
        output.open("wb") as file,
        subprocess.Popen([*PROGRAM, "--sick"], cwd=tmp_path, stdout=file, stderr=file) as demo,
    ):
        eventually(lambda: "Ctrl-C stops it" in output.read_text(), within_s=60)
        found = re.search(r"Look around: (\S+) in a browser", output.read_text())
        assert found is not None, output.read_text()
        for page in ("", "jobs", "schedules", "queues", "daemons"):
            assert httpx.get(found[1] + page, timeout=30).status_code == 200
        assert "After a minute doctor finds as well the session" in output.read_text()
        demo.send_signal(signal.SIGINT)
        assert demo.wait(30) == 0
