"""A chain of a thousand jobs, each the parent of the next, while daemons are killed: no child is early, none stuck."""

import json
import random
import signal
from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from ayb_jobs.client.enqueueing import enqueue
from ayb_jobs.lab.torture.fleet import Daemon, Setting
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import Connection, connect
from tests.eventually import eventually
from tests.faults.test_fast_recovery import two_daemons

JOBS = 1000
KILLS = 10
DONE = "SELECT count(*) FROM _ayb_jobs WHERE type = 'torture_work' AND state = 'completed'"
OPEN_EDGES = "SELECT count(*) FROM _ayb_job_dependencies WHERE is_open"
# A job that was lost is due again after its backoff, which is not what is looked at here.
AT_ONCE = "UPDATE _ayb_jobs SET run_at = now() WHERE state = 'queued' AND attempts > 0 AND type = 'torture_work'"


def make_chain(conn: Connection, *, length: int) -> list[str]:
    with conn.transaction():
        ids = [enqueue(conn, NewJob(type="torture_work", max_attempts=99)).id]
        while len(ids) < length:
            ids.append(enqueue(conn, NewJob(type="torture_work", max_attempts=99, depends_on=[ids[-1]])).id)
    return ids


def done(conn: Connection) -> int:
    """Return how many have completed; have what was lost start at once."""
    conn.execute(AT_ONCE)
    row = conn.execute(DONE).fetchone()
    assert row is not None
    return int(row[0])


def runs(folder: Path) -> Mapping[str, Mapping[str, list[float]]]:
    """Return, by the handlers' own logs, when runs of each job began (`start`), and when they ended well (`ok`)."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for file in folder.glob("effects-*.jsonl"):
        for line in file.read_text().splitlines():
            if line.endswith("}"):  # a kill may cut the last one
                told = json.loads(line)
                found[told["job"]][told["what"]].append(told["at"])
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_chain_of_a_thousand_runs_in_its_order_though_daemons_are_killed(database_url: str, tmp_path: Path) -> None:
    setting = Setting(url=database_url, folder=tmp_path, lease_s=5, shutdown_s=1)
    chance = random.Random(1)
    with closing(connect(database_url)) as conn, two_daemons(setting) as daemons:

        def reaches(jobs: int) -> None:
            eventually(lambda: done(conn) >= jobs, within_s=300)

        for daemon in daemons:
            daemon.await_work()
        chain = make_chain(conn, length=JOBS)
        for number in range(KILLS):
            reaches((number + 1) * JOBS // (KILLS + 1))
            kill(chance.choice(daemons))
        reaches(JOBS)
        assert conn.execute(OPEN_EDGES).fetchone() == (0,)
    found = runs(tmp_path)
    early = [child for parent, child in pairwise(chain) if min(found[child]["start"]) < min(found[parent]["ok"])]
    assert early == []
    assert set(chain) <= set(found)


def kill(daemon: Daemon) -> None:
    daemon.send(signal.SIGKILL)
    daemon.await_end()
    daemon.start()
