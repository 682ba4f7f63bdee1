"""`ayb-jobs bench`, with few jobs: every work runs, and says what it measured."""

import json
import os
import subprocess
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import pytest

from ayb_jobs.cli.commands import bench
from ayb_jobs.cli.main import main
from ayb_jobs.lab.bench import daemons, idle
from ayb_jobs.lab.bench.figures import Pair, figure
from ayb_jobs.lab.bench.processes import Drained
from ayb_jobs.lab.bench.works import WORKS
from ayb_jobs.storage.database import connect
from tests import forked

SMALL = ("--jobs", "60", "--rows", "600", "--rounds", "1")
FIGURES = {
    "drain": ["history kept", "removed on completion"],
    "waiting": ["50 handlers of 5 ms"],
    "enqueue": ["one by one", "1,000 a call"],
    "latency": ["p50", "p99"],
    "deep": ["on 600 finished", "first of a backlog of 660", "with 600 delayed of higher priority"],
    "reads": [f"{asked}, 600 finished" for asked in ("list", "list of one state", "show", "stats")],
    "pinned": ["first fifth of 60, pinned", "last fifth of 60, pinned"],
    "watched": ["on 600 finished, read every 2 s"],
    "daemons": [
        *(f"{count} daemons" for count in (2, 4, 8)),
        *(f"8 daemons, {which} jobs of one" for which in ("most", "least")),
    ],
    "queues": [
        *(f"{count} queues, 4 priorities" for count in (10, 50, 200)),
        "50 queues, 600 jobs in others",
    ],
    "cleanup": [f"{cost}, 600 rows" for cost in ("time", "WAL", "longest transaction", "a writer's p99")],
    "kinds": [
        *(
            name
            for work in (
                "empty async handlers",
                "15 async handlers of 1 s at once",
                "requests answered at once",
                "commands, /bin/true",
                "empty isolated handlers",
                "isolated handlers that compute",
            )
            for name in (work, f"{work}: CPU")
        ),
        "a step",
    ],
    "retention": [
        *(f"{cost} of deleting one {kind}" for kind in ("execution", "completed job") for cost in ("time", "WAL")),
        "time of dropping a day, each execution",
    ],
    "idle": [
        *("transactions", "CPU", "memory"),
        *(f"{cost}, each of 2 daemons" for cost in ("transactions", "CPU")),
        *("start to first lease", "jobs list"),
    ],
}

# These start daemons one after another, or wait.
LONG = {"latency", "deep", "pinned", "watched", "daemons", "queues", "kinds"}
# Not run here: its fires come when they are due, which takes more than a minute.
TOO_LONG = {"schedules"}


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return forked.run([*forked.MODULE, "bench", *arguments], env={**os.environ, **environment}, timeout=110)


def test_every_work_is_known_by_name_and_tested() -> None:
    assert list(bench.WORKS) == list(WORKS)
    assert set(WORKS) == set(FIGURES) | TOO_LONG


@pytest.mark.parametrize(
    "work", [pytest.param(work, marks=[pytest.mark.slow] * (work in LONG)) for work in FIGURES if work != "idle"]
)
def test_each_work_measures_on_the_server_that_is_named_and_leaves_nothing(database_url: str, work: str) -> None:
    with closing(connect(database_url)) as conn:
        before = conn.execute("SELECT datname FROM pg_database ORDER BY 1").fetchall()
        done = run(work, *SMALL, "--json", "--database-url", database_url)
        after = conn.execute("SELECT datname FROM pg_database ORDER BY 1").fetchall()
    assert done.returncode == 0, done.stderr
    check([json.loads(line) for line in done.stdout.splitlines()], work)
    assert after == before


def test_idle_measures_a_daemon_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], database_url: str
) -> None:
    monkeypatch.setattr(idle, "WARM_UP_S", 0.2)
    monkeypatch.setattr(idle, "WATCHED_S", 0.5)
    monkeypatch.setattr(idle, "MANY", 2)
    with pytest.raises(SystemExit) as ended:
        main(["bench", "idle", *SMALL, "--json", "--database-url", database_url])
    assert ended.value.code == 0
    check([json.loads(line) for line in capsys.readouterr().out.splitlines()], "idle")


def check(figures: list[Mapping[str, Any]], work: str) -> None:
    assert [one["name"] for one in figures] == FIGURES[work]
    for one in figures:
        assert set(one) == {"work", "name", "value", "unit", "bare", "ratio", "against"}
        assert one["work"] == work
        assert one["value"] >= 0
        assert isinstance(one["unit"], str)
        assert one["against"]
        assert one["bare"] >= 0


@pytest.mark.outer
def test_an_embedded_server_is_measured_on_where_none_is_named() -> None:
    done = run("enqueue", *SMALL, AYB_JOBS_DATABASE_URL="postgresql://nobody@127.0.0.1:1/production")
    assert done.returncode == 0, done.stderr
    title, *lines = done.stdout.splitlines()
    assert title.split() == ["WORK", "FIGURE", "VALUE", "BESIDE", "RATIO", "OF"]
    assert [line.split()[0] for line in lines] == ["enqueue", "enqueue"]


@pytest.mark.outer
def test_a_work_that_does_not_exist_is_refused() -> None:
    done = run("drains")
    assert done.returncode == 2
    assert "'drain'" in done.stderr


@pytest.mark.outer
def test_a_server_that_does_not_answer_is_one_line() -> None:
    done = run("drain", "--database-url", "postgresql://nobody:secret@127.0.0.1:1/x")
    assert done.returncode == 69
    assert "cannot connect" in done.stderr
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_figure_is_the_median_and_compares_round_by_round() -> None:
    found = figure("drain", "x", "jobs/s", [Pair(10, 20), Pair(30, 30), Pair(5, 50)])
    assert (found.value, found.bare, found.ratio) == (10, 30, 0.5)


def test_a_drain_tells_how_many_jobs_each_daemon_settled(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], database_url: str
) -> None:
    monkeypatch.setattr(daemons, "COUNTS", (2,))
    with pytest.raises(SystemExit) as ended:
        main(["bench", "daemons", "--jobs", "2000", "--rounds", "1", "--json", "--database-url", database_url])
    assert ended.value.code == 0
    found = {line["name"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    most, least = (found[f"2 daemons, {which} jobs of one"] for which in ("most", "least"))
    assert most["value"] + least["value"] == 2000
    assert most["bare"] == least["bare"] == 1000


def test_parts_of_a_drain_are_told_by_when_their_jobs_were_settled() -> None:
    drained = Drained(began=0.0, marks=[(1.0, 50), (2.0, 100), (4.0, 150), (5.0, 200)])
    assert drained.rate == 40
    assert drained.part(0, 2) == 50
    assert drained.part(1, 2) == pytest.approx(100 / 3)
    assert drained.part(0, 8) == 50
