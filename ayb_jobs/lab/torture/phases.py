"""The phases of a torture run: warm up, faults, heal, drain, probes."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

from ayb_jobs.client.enqueueing import enqueue
from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.errors import DatabaseError
from ayb_jobs.lab.checker import Evidence, Limits, Snapshot
from ayb_jobs.lab.torture import effects, elsewhere, event_log, history
from ayb_jobs.lab.torture.clients import Client
from ayb_jobs.lab.torture.counters import counters
from ayb_jobs.lab.torture.fleet import Daemon, Setting
from ayb_jobs.lab.torture.fork_server import ForkServer
from ayb_jobs.lab.torture.holding import let_go
from ayb_jobs.lab.torture.nemesis import Nemesis
from ayb_jobs.lab.torture.pausing import Pauses
from ayb_jobs.lab.torture.retrying import RetryingConnection
from ayb_jobs.lab.torture.tides import Tides
from ayb_jobs.lab.torture.workers import Workers
from ayb_jobs.lab.torture.workload import JOB_LIMITS, TRANSACTION
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import connect, shares_sessions

CLIENTS = 3
# Due jobs for each daemon, so that all slots are busy and the rest is soon worked off; and all that have not ended.
BACKLOG, UNENDED = 75, 225
PROBES = 12
# After a job a daemon looks once more by itself, which is not to be taken for its having heard of the next.
BETWEEN_PROBES_S = 0.3
POLL_MS = 10_000
POOLED_POLL_MS = 500
PROBED_WITHIN_S = 20.0
STARTED_WITHIN_S = 60.0

UNFINISHED = """
    SELECT (SELECT count(*) FROM _ayb_jobs WHERE state IN ('queued', 'running'))
        + (SELECT count(*) FROM _ayb_job_batches WHERE sealed_at IS NOT NULL AND done_at IS NULL)
"""
DUE = "SELECT count(*) FROM _ayb_jobs WHERE state = 'queued' AND run_at <= now()"
DISABLE_SCHEDULES = "UPDATE _ayb_job_schedules SET enabled = false WHERE name LIKE 'torture%'"
HURRY = """
    WITH hurried AS (
        UPDATE _ayb_jobs SET run_at = now()
        WHERE state = 'queued' AND run_at > now() + interval '1 second' AND blocked_run_at IS NULL
        RETURNING id
    )
    SELECT pg_notify('ayb_jobs', '') FROM (SELECT count(*) FROM hurried) AS counted
"""
SCHEDULES = "SELECT id::text FROM _ayb_job_schedules WHERE name LIKE 'torture%'"


Progress = Callable[[str, Mapping[str, float]], None]


class Run:
    """One run, with the state that its phases share."""

    def __init__(
        self,
        *,
        url: str,
        server: EmbeddedPostgres | None,
        fork_server: ForkServer,
        seconds: float,
        seed: int,
        faults: Mapping[str, int | None],
        daemons: int,
        jobs: int,
        drain_s: float,
        folder: Path,
        port: int,
        isolated: bool,
        progress: Progress,
    ) -> None:
        self._url = url
        self._database = RetryingConnection(url, give_up_s=drain_s)
        self._seconds = seconds
        self._most_jobs = jobs
        self._drain_s = drain_s
        self._folder = folder
        self._progress = progress
        with closing(connect(url, name="torture")) as conn:
            self._pooled = shares_sessions(conn)
        # Through a pooler no notification arrives, so that looking often is all there is.
        self._setting = Setting(
            url=url,
            folder=folder,
            poll_ms=POOLED_POLL_MS if self._pooled else POLL_MS,
            api=not faults,
            isolated=isolated,
            further=elsewhere.config(port),
        )
        self._daemons = [Daemon(number, self._setting, fork_server) for number in range(1, daemons + 1)]
        self._room = threading.Event()
        self._history = history.History(folder / "history.jsonl")
        self._clients = [
            Client(
                number,
                url=url,
                seed=seed,
                history=self._history,
                room=self._room,
                lease_s=self._setting.lease_s,
                isolated=isolated,
            )
            for number in range(CLIENTS)
        ]
        self._nemesis = Nemesis(
            daemons=self._daemons,
            server=server,
            url=url,
            application=self._setting.application,
            seed=seed,
            wanted=faults,
            seconds=seconds,
            lease_s=self._setting.lease_s,
        )
        self._tides = Tides(self._database, self._clients)
        self._workers = Workers(self._setting, seed=seed, die="kill" in faults)
        self._pauses = Pauses(self._database, daemons=self._daemons, workers=self._workers, tides=self._tides)
        self._snapshots: list[Snapshot] = []
        self._began = time.monotonic()

    def __call__(self) -> Evidence:
        """Go through the phases, and return what was written down."""
        self._setting.write_config()
        try:
            with self._workers.running():
                self._warm_up()
                self._strike()
                self._drain()
            self._compare_counters()
            probes = self._probe()
            self._compare_counters()
        finally:
            try:
                self._nemesis.stop()  # or it would start daemons that nobody stops
            finally:
                self._stop_daemons()
        return self._collect(probes)

    def _warm_up(self) -> None:
        for daemon in self._daemons:
            daemon.start()
        for client in self._clients:
            client.start()
        give_up = time.monotonic() + STARTED_WITHIN_S
        self._until(lambda now: now > give_up or all(daemon.works for daemon in self._daemons), "warm")
        for daemon in self._daemons:
            if not daemon.works:
                raise DatabaseError(f"{daemon.name} runs no jobs: {daemon.last_words()}")

    def _strike(self) -> None:
        ends = time.monotonic() + self._seconds
        self._nemesis.start()
        self._until(lambda now: self._has_struck(is_over=now >= ends), "faults")
        self._nemesis.stop()
        if self._nemesis.errors:
            raise self._nemesis.errors[0]

    def _has_struck(self, *, is_over: bool) -> bool:
        self._tides.turn()
        self._pauses.turn()
        self._workers.turn()
        counts = self._nemesis.counted and self._nemesis.running()
        return is_over and self._enqueued() >= self._most_jobs and not counts

    def _enqueued(self) -> int:
        return sum(client.enqueued for client in self._clients)

    def _drain(self) -> None:
        self._pauses.end()
        for daemon in self._daemons:
            if not daemon.alive:
                daemon.start()
        self._until(lambda _: True, "heal")
        for client in self._clients:
            client.stop()
        self._database.ask(lambda conn: conn.execute(DISABLE_SCHEDULES))
        give_up = time.monotonic() + self._drain_s
        self._until(lambda _: self._unfinished() == 0 or time.monotonic() > give_up, "drain", hurry=True)

    def _probe(self) -> list[str]:
        """Enqueue jobs one by one on an idle fleet, to see how soon each is noticed; through a pooler none is."""
        if self._pooled:
            return []
        probes = []
        give_up = time.monotonic() + PROBED_WITHIN_S
        for number in range(PROBES):
            time.sleep(BETWEEN_PROBES_S)
            key = f"probe-{number}"
            self._history.note("enqueue", key, "ask")
            job = NewJob(type="torture_work", idempotency_key=key)
            made = self._database.ask(partial(enqueue, job=job))
            self._history.note("enqueue", key, "ok", made.id)
            probes.append(key)
            while self._unfinished() and time.monotonic() < give_up:
                time.sleep(0.02)
        return probes

    def _compare_counters(self) -> None:
        """Take a snapshot with what the daemons counted, where none has died, and with it what it had counted."""
        if self._setting.api and self._unfinished() == 0:
            told = counters(self._daemons)
            snapshot = self._database.ask(lambda conn: event_log.count(conn, time.monotonic()))
            self._snapshots.append(snapshot._replace(metrics=told))

    def _stop_daemons(self) -> None:
        for client in self._clients:
            client.stop()
        for daemon in self._daemons:
            if daemon.alive:
                self._nemesis.stop_gracefully(daemon, "stop")
        self._history.close()

    def _until(self, over: Callable[[float], bool], phase: str, *, hurry: bool = False) -> None:
        """Keep the backlog filled, take snapshots and tell of progress until it is over."""
        last_told = 0.0
        while True:
            fleet = len(self._daemons)
            if self._database.number(DUE) < BACKLOG * fleet and self._unfinished() < UNENDED * fleet:
                self._room.set()
            else:
                self._room.clear()
            elapsed = time.monotonic() - self._began
            if elapsed - last_told >= 1.0:
                last_told = elapsed
                self._snapshots.append(self._database.ask(lambda conn: event_log.count(conn, time.monotonic())))
                numbers = {
                    "jobs": self._enqueued(),
                    "unfinished": self._unfinished(),
                    "faults": len(self._nemesis.faults),
                }
                self._progress(phase, {"elapsed_s": elapsed, **numbers})
                self._database.ask(lambda conn: let_go(conn, self._history))
                if hurry:
                    self._database.ask(lambda conn: conn.execute(HURRY))
            if over(time.monotonic()):
                return
            time.sleep(0.05)

    def _unfinished(self) -> int:
        return self._database.number(UNFINISHED)

    def _collect(self, probes: list[str]) -> Evidence:
        self._snapshots.append(self._database.ask(lambda conn: event_log.count(conn, time.monotonic())))
        offset_s, error_s = self._database.ask(event_log.clock_offset)
        events = self._database.ask(lambda conn: event_log.read(conn, offset_s))
        committed = self._database.ask(event_log.committed_effects)
        dependencies = self._database.ask(event_log.edges)
        batches = self._database.ask(event_log.batches)
        statements = self._database.ask(lambda conn: elsewhere.read_statements(conn, offset_s))
        schedules = self._database.ask(lambda conn: conn.execute(SCHEDULES).fetchall())
        self._database.close()
        setting = self._setting
        return Evidence(
            events=events,
            operations=history.read(self._folder / "history.jsonl"),
            runs=effects.read(self._folder),
            faults=[*self._nemesis.faults, *self._workers.faults],
            workers=frozenset(self._workers.writers),
            snapshots=self._snapshots,
            probes=probes,
            transactional=TRANSACTION,
            committed=committed,
            dependencies=dependencies,
            batches=batches,
            job_limits=JOB_LIMITS,
            job_pauses=self._pauses.held,
            elsewhere=[*elsewhere.read_log(self._folder), *statements],
            types_elsewhere=elsewhere.TYPES,
            every_second={row[0]: 1.0 for row in schedules},
            limits=Limits(
                lease_s=setting.lease_s,
                margin_s=setting.lease_s / 3,
                clock_s=0.02 + error_s,
                recovery_s=8.0,
                stop_s=setting.shutdown_s + 15.0,
                pickup_s=setting.poll_ms / 1000 * 0.08,
            ),
        )
