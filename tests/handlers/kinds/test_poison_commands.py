"""Commands that misbehave: each costs its own attempts, and no other job anything."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ayb_jobs.client.enqueueing import enqueue_many
from ayb_jobs.config import load_config
from ayb_jobs.handlers.kinds.table import KINDS
from ayb_jobs.handlers.packs import build_registry
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import Connection
from tests.eventually import eventually
from tests.running import running

# Each with its settings, how its attempt ends, and what its error says.
POISON: Mapping[str, tuple[str, dict[str, Any], str, str]] = {
    "deaf": ("trap '' TERM; while :; do sleep 0.1; done", {"timeout_s": 1, "grace_s": 0.2}, "timed_out", ""),
    "segfault": ("kill -SEGV $$", {}, "failed", "SIGSEGV"),
    "abort": ("kill -ABRT $$", {}, "failed", "SIGABRT"),
    "hoard": ("x=x; while :; do x=$x$x; done", {"max_memory_mb": 50, "timeout_s": 30}, "failed", ""),
    "flood": ("yes | head -c 20000000; exit 1", {}, "failed", "exit code 1"),
    "leaving": ("sleep 3600 & echo $! > left; exit 9", {}, "failed", "exit code 9"),
    "usage": ("exit 64", {}, "discarded", "64"),
}
ENDED = "SELECT job_type, attempt, outcome, count(*) FROM _ayb_job_executions GROUP BY 1, 2, 3 ORDER BY 1"


def registry_of(folder: Path) -> Registry:
    """Return the poison, a command that ends well, and a plain handler."""
    types: dict[str, dict[str, Any]] = {
        name: {"exec": ["/bin/sh", "-c", script], "cwd": str(folder), **settings}
        for name, (script, settings, *_) in POISON.items()
    }
    types["command"] = {"exec": ["/bin/true"]}
    lines = []
    for name, settings in types.items():
        lines += [f"[job_types.{name}]", *(f"{key} = {json.dumps(value)}" for key, value in settings.items())]
    file = folder / "ayb-jobs.toml"
    file.write_text("\n".join(lines))
    registry = build_registry(load_config(file, kinds=KINDS))
    registry.handler("plain")(lambda _: None)
    return registry


def test_poison_among_a_thousand_innocent_jobs_costs_its_own_attempts_and_nothing_else(
    database_url: str, conn: Connection, tmp_path: Path
) -> None:
    registry = registry_of(tmp_path)
    innocent = [NewJob(type="command" if number % 10 == 0 else "plain", max_attempts=1) for number in range(1000)]
    poison = [NewJob(type=name, max_attempts=1) for name in POISON]
    enqueue_many(conn, [*innocent[:100], *poison, *innocent[100:]])
    with running(database_url, registry, worker_concurrency=4):
        unfinished = "SELECT count(*) FROM _ayb_jobs WHERE state IN ('queued', 'running')"
        eventually(lambda: conn.execute(unfinished).fetchone() == (0,), within_s=90)
        left = (tmp_path / "left").read_text().strip()
        eventually(lambda: not Path(f"/proc/{left}").exists())
    expected = [("command", 1, "completed", 100), ("plain", 1, "completed", 900)]
    assert conn.execute(ENDED).fetchall() == sorted(
        [*expected, *((name, 1, outcome, 1) for name, (_, _, outcome, _) in POISON.items())]
    )
    for name, (*_, told) in POISON.items():
        (error,) = conn.execute("SELECT error FROM _ayb_job_executions WHERE job_type = %s", (name,)).fetchall()[0]
        assert told in error, (name, error)
