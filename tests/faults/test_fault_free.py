"""Without faults no job runs twice, and a daemon takes no more memory, threads or descriptors the longer it works."""

import json
import os
import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pytest

from ayb_jobs.client.enqueueing import enqueue_many
from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.lab.torture.counters import counters
from ayb_jobs.lab.torture.fleet import Daemon, Setting
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.migrate import migrate
from tests.eventually import eventually

MILLION = 1_000_000
DAEMONS = 2
ROUND = 20_000
JOB_TYPE = "torture_work"
# By then every code path was taken, and most buffers have their size.
WARM_UP_ROUNDS = 3
# What the allocator keeps between the threads' arenas has found its size as well.
LONG_WARM_UP_ROUNDS = 10
# What leaks grows in each round, by 50 bytes a job or less where this holds; what the allocator keeps comes in a few
# steps at any time, mostly of a MiB or two, so that all but a quarter of the rounds may grow by more.
ROUND_MIB = 0.5
GROWTH_MIB = 10.0
# Pools open a connection more where several threads want one at the same moment, and keep it.
POOLED = 3

PRUNE = "DELETE FROM _ayb_jobs WHERE state = 'completed' AND type = %s"
UNFINISHED = "SELECT count(*) FROM _ayb_jobs WHERE type = %s AND state <> 'completed'"
ONCE = "SELECT count(*) FROM _ayb_jobs WHERE type = %s AND state = 'completed' AND attempts = 1"


class Resources(NamedTuple):
    """What a process takes: memory in MiB, threads, and open descriptors."""

    memory: float
    threads: int
    descriptors: int

    @classmethod
    def of(cls, pid: int) -> "Resources":
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        return cls(int(status["VmRSS"].split()[0]) / 1024, int(status["Threads"]), descriptors)


@pytest.fixture
def url() -> Iterator[str]:
    """The address of a migrated database on a server of its own, since this one takes all that the machine has."""
    with EmbeddedPostgres.throwaway(settings={"max_wal_size": "4GB"}) as server:
        with closing(connect(server.url())) as conn:
            migrate(conn)
        yield server.url()


@pytest.fixture
def fleet(url: str, tmp_path: Path) -> Iterator[list[Daemon]]:
    setting = Setting(url=url, folder=tmp_path, lease_s=60, concurrency=10, api=True)
    setting.write_config()
    daemons = [Daemon(number, setting) for number in range(1, DAEMONS + 1)]
    for daemon in daemons:
        daemon.start()
    for daemon in daemons:
        daemon.await_work()
    yield daemons
    for daemon in daemons:
        daemon.send(signal.SIGTERM)
    assert {daemon.await_end() for daemon in daemons} == {0}


def work_through(conn: Connection, folder: Path, jobs: int) -> None:
    """Have the fleet run so many new jobs, and hold that each ran once, by its handlers' word and by the table's."""
    conn.execute(PRUNE, (JOB_TYPE,))
    for effects in folder.glob("effects-*.jsonl"):
        os.truncate(effects, 0)
    enqueue_many(conn, (NewJob(type=JOB_TYPE) for _ in range(jobs)))
    eventually(lambda: conn.execute(UNFINISHED, (JOB_TYPE,)).fetchone() == (0,), within_s=60 + jobs / 100)
    ids = {row[0] for row in conn.execute("SELECT id::text FROM _ayb_jobs WHERE type = %s", (JOB_TYPE,))}
    runs = Counter(job_id for job_id in started(folder.glob("effects-*.jsonl")) if job_id in ids)
    assert len(runs) == jobs
    assert max(runs.values()) == 1, f"{sum(count > 1 for count in runs.values())} of {jobs} jobs ran more than once"
    assert conn.execute(ONCE, (JOB_TYPE,)).fetchone() == (jobs,)


def started(files: Iterable[Path]) -> Iterator[str]:
    """Yield the id of each job that a handler began, once for each run."""
    for file in files:
        for line in file.read_text().splitlines():
            told = json.loads(line)
            if told["what"] == "start":
                yield told["job"]


def rounds(
    url: str, fleet: list[Daemon], folder: Path, *, jobs: int, each: int, warm_up: int, growth_mib: float
) -> None:
    """Work through `jobs` after `warm_up` rounds, round by round, and hold what each daemon takes at their ends.

    Its memory may grow by `growth_mib` for each million jobs, or in all where there are fewer; the middle of three
    rounds counts, since one may end amid a collection.
    """
    taken: list[list[Resources]] = []
    with closing(connect(url, name="test")) as conn:
        for number in range(warm_up + jobs // each):
            work_through(conn, folder, each)
            if number >= warm_up - 1:
                taken.append([Resources.of(daemon.pid) for daemon in fleet])
    told = counters(fleet)
    for name in ("leased", "completed"):
        assert told[f"ayb_jobs_{name}"] - told["ayb_jobs_enqueued"] == each * warm_up + jobs, told
    story = "\n".join(str(row) for row in taken)
    print(story)
    for daemon in zip(*taken, strict=True):
        memory = [taken.memory for taken in daemon]
        steps = sorted(later - earlier for earlier, later in pairwise(memory))
        assert steps[len(steps) // 4] <= ROUND_MIB, story
        growth = (median(memory[-3:]) - median(memory[:3])) / max(1.0, jobs / MILLION)
        print(f"memory grew by {growth:.1f} MiB for each million jobs")
        assert growth <= growth_mib, story
        assert daemon[-1].threads <= daemon[0].threads, story
        assert daemon[-1].descriptors <= daemon[0].descriptors + POOLED, story


@pytest.mark.timeout(600)
def test_a_hundred_thousand_jobs_run_once_each_and_the_daemon_does_not_grow(
    url: str, fleet: list[Daemon], tmp_path: Path
) -> None:
    rounds(url, fleet, tmp_path, jobs=100_000, each=ROUND, warm_up=WARM_UP_ROUNDS, growth_mib=GROWTH_MIB)


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
@pytest.mark.skipif("RELEASE" not in os.environ, reason="takes ten minutes or more: RELEASE=1 make test-slow")
def test_five_million_jobs_run_once_each_and_a_million_take_five_mebibytes_at_most(
    url: str, fleet: list[Daemon], tmp_path: Path
) -> None:
    rounds(url, fleet, tmp_path, jobs=5_000_000, each=100_000, warm_up=LONG_WARM_UP_ROUNDS, growth_mib=5.0)
