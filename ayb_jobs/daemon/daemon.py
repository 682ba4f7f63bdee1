"""The composition root: builds every part, starts them, and stops them in order."""

import os
import random
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import get_args

from structlog.typing import FilteringBoundLogger

from ayb_jobs import __version__
from ayb_jobs.config import Config
from ayb_jobs.events import (
    DaemonDisabled,
    DaemonStarted,
    DaemonStopped,
    DaemonStopping,
    Event,
    Events,
    JobsLeased,
    LoopFailed,
    RowsPruned,
)
from ayb_jobs.handlers.context import ContextServices
from ayb_jobs.handlers.packs import prune_webhook_deliveries
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.daemons import Worker as WorkerRow
from ayb_jobs.redact import Redactor
from ayb_jobs.runtime.chores.alerter import alert_loops
from ayb_jobs.runtime.chores.pruner import Pruner
from ayb_jobs.runtime.chores.scheduler import Scheduler
from ayb_jobs.runtime.executors.threads import Threads
from ayb_jobs.runtime.fleet.heartbeat import Heartbeat
from ayb_jobs.runtime.fleet.lifeline import LifelineKeeper
from ayb_jobs.runtime.fleet.recoverer import Recoverer
from ayb_jobs.runtime.jobs.buffer import Buffer
from ayb_jobs.runtime.jobs.completer import Completer
from ayb_jobs.runtime.jobs.giving_back import GivingBack
from ayb_jobs.runtime.jobs.in_flight import InFlight
from ayb_jobs.runtime.jobs.lease_keeper import LeaseKeeper
from ayb_jobs.runtime.jobs.leasing import Leasing
from ayb_jobs.runtime.jobs.payloads import Payloads
from ayb_jobs.runtime.jobs.producer import Producer
from ayb_jobs.runtime.jobs.room import Room
from ayb_jobs.runtime.jobs.slot import Endings, Slot, SlotState
from ayb_jobs.runtime.jobs.watchdog import Watchdog
from ayb_jobs.runtime.loop import Loop
from ayb_jobs.runtime.notifier import JOBS_REPLACED, SCHEDULE_CHANGED, Notifier
from ayb_jobs.storage.database import Database, Timeouts

# What is written at the very end (endings, jobs given back) may take this long beyond the shutdown timeout.
FLUSH_S = 5.0
# How often locked rows are tried again meanwhile.
LOOK_S = 0.05
# How long a loop's last turn is waited for; a statement that hangs must not keep the process.
JOIN_S = 10.0
# What was missed while no daemon ran is caught up first, and is then no reason for an alert.
ALERT_AFTER_S = 2.0
LEGACY_TURN_S = 3600.0


class Daemon:
    """One daemon on one database: every part of it, and every thread.

    `start` may come once, on a database whose schema is up to date; `stop` even before it. `database` is the
    daemon's own, for those who serve it over HTTP.
    """

    def __init__(
        self,
        *,
        config: Config,
        url: str,
        registry: Registry,
        events: Events,
        logger: FilteringBoundLogger,
        worker_id: str,
    ) -> None:
        jobs = config.jobs
        self.worker_id = worker_id
        self.draining = threading.Event()
        self._config = config
        self._events = events
        self._types = registry.names()
        self._hurry = False
        self.database = open_database(config, url)
        self._loops: dict[str, Loop] = {}
        self._in_flight = InFlight()
        backoff = Backoff()
        self._completer = Completer(
            database=self.database,
            in_flight=self._in_flight,
            emit=events.emit,
            worker_id=self.worker_id,
            backoff=backoff,
            remove_completed=config.retention.completed_h == 0,
            wake=self._waker("completer"),
            redact=Redactor(config.secrets()),
        )
        self._buffer = Buffer(on_low=self._room_made)
        leasing = Leasing(
            worker_id=self.worker_id,
            queues=jobs.queues,
            types=self._types,
            lease_s=jobs.lease_duration_s,
            poll_s=jobs.poll_interval_ms / 1000,
        )
        self._giving_back = GivingBack(
            database=self.database,
            buffer=self._buffer,
            in_flight=self._in_flight,
            emit=events.emit,
            worker_id=self.worker_id,
        )
        self._producer = Producer(
            database=self.database,
            leasing=leasing,
            buffer=self._buffer,
            in_flight=self._in_flight,
            room=Room(
                buffer=self._buffer,
                in_flight=self._in_flight,
                concurrency=jobs.worker_concurrency,
                mean_run_s=self._mean_run_s,
            ),
            giving_back=self._giving_back,
            emit=events.emit,
            wake=self._waker("producer"),
        )
        events.subscribe(self._note_leases)
        services = ContextServices(
            database=self.database,
            lease_s=jobs.lease_duration_s,
            logger=logger,
            worker_id=self.worker_id,
            settled=self._completer.settled,
        )
        executors = {"thread": Threads()}
        payloads = Payloads(database=self.database)
        endings = Endings(settle=self._completer.settle, release=self._completer.release)
        self._slots = [
            Slot(
                name=f"slot-{number}",
                buffer=self._buffer,
                find=registry.get,
                executors=executors,
                services=services,
                backoff=backoff,
                payloads=payloads,
                endings=endings,
            )
            for number in range(1, jobs.worker_concurrency + 1)
        ]
        self._notifier = Notifier(
            url=config.database.direct_url or url,
            name="ayb-jobs-notifier",
            timeouts=self.database.timeouts,
            emit=events.emit,
            notified=self._notified,
            on_word={JOBS_REPLACED: self._jobs_replaced}
            | ({SCHEDULE_CHANGED: self._waker("scheduler")} if jobs.scheduler_enabled else {}),
        )
        self._lifeline = LifelineKeeper(
            database=self.database,
            url=config.database.direct_url or url,
            worker=self._row(),
            emit=events.emit,
            backoff=backoff,
            max_crashes=jobs.max_crashes,
            lease_s=jobs.lease_duration_s,
            wake=self._waker("lifeline"),
        )
        self._heartbeat = Heartbeat(database=self.database, worker=self._row(), emit=events.emit)
        self._keeper = LeaseKeeper(
            database=self.database, in_flight=self._in_flight, emit=events.emit, lease_s=jobs.lease_duration_s
        )
        watchdog = Watchdog(
            in_flight=self._in_flight,
            settle=self._completer.settle,
            emit=events.emit,
            backoff=backoff,
            chance=random.random,
            lease_s=jobs.lease_duration_s,
        )
        recoverer = Recoverer(
            database=self.database,
            emit=events.emit,
            backoff=backoff,
            max_crashes=jobs.max_crashes,
            lease_s=jobs.lease_duration_s,
        )
        pruner = Pruner(database=self.database, retention=config.retention, emit=events.emit, stopping=self.draining)
        self._add("lease keeper", self._keeper.tick)
        self._add("watchdog", watchdog.tick)
        self._add("completer", self._completer.tick)
        self._add("producer", self._producer.tick)
        self._add("recoverer", recoverer.tick)
        self._add("heartbeat", self._heartbeat.tick)
        self._add("lifeline", self._lifeline.tick)
        self._add("pruner", pruner.tick)
        if config.database.notify:
            self._add("notifier", self._notifier.tick)
        alerting = alert_loops(config.alerts, self.database, events, self._waker)
        self._alerting = tuple(alerting)
        for name, tick in alerting.items():
            self._add(name, tick, first_after_s=ALERT_AFTER_S)
        if jobs.scheduler_enabled:
            self._add("scheduler", Scheduler(self.database, tick_s=jobs.scheduler_tick_s, emit=events.emit).tick)

    def start(self) -> None:
        """Start every thread."""
        for slot in self._slots:
            slot.start()
        for loop in self._loops.values():
            loop.start()
        self._events.emit(
            DaemonStarted(
                worker_id=self.worker_id,
                concurrency=self._config.jobs.worker_concurrency,
                job_types=self._types,
                queues=self._config.jobs.queues,
                scheduler=self._config.jobs.scheduler_enabled,
            )
        )

    def loops(self) -> Sequence[Loop]:
        """Return every loop, for health checks."""
        return tuple(self._loops.values())

    def slots(self) -> Mapping[str, int]:
        """Return how many handler slots are idle, busy and stuck."""
        counts = Counter(slot.state for slot in self._slots)
        return {state: counts[state] for state in get_args(SlotState)}

    def hurry(self) -> None:
        """Have a stop that is under way wait no longer for handlers."""
        self._hurry = True

    def stop(self, reason: str = "asked to stop") -> int:
        """Stop every part, in order; return how many jobs are left: handlers still run, or their endings are not written.

        Jobs that never started go back to the queue, with their attempt. Handlers that run are told to stop and waited
        for; those that run on keep their jobs until the process has ended, which peers notice by the lifeline, or until the
        leases expire.
        """
        self.draining.set()
        running = self._in_flight.running()
        timeout_s = self._config.jobs.shutdown_timeout_s
        self._events.emit(DaemonStopping(reason=reason, running=len(running), timeout_s=timeout_s))
        self._notifier.interrupt()
        self._stop_loops("scheduler", "recoverer", "pruner", "notifier")
        for name in self._alerting:
            self._loops[name].stop()  # not waited for: what an address has not taken, another daemon delivers
        self._buffer.close()
        self._stop_loops("producer")
        self._release_unstarted()
        abandoned = self._await_handlers(time.monotonic() + timeout_s)
        self._release_unstarted()  # what a statement has leased that was still under way
        unsettled = self._flush_completer(time.monotonic() + FLUSH_S)
        self._release_left_orphans(time.monotonic() + FLUSH_S)
        self._stop_loops("completer", "watchdog", "lease keeper", "lifeline", "heartbeat")
        if not ((abandoned or unsettled) and self._lifeline.held):
            # Else the end of the process is what tells the peers that nobody runs these jobs any more.
            self._attempt("heartbeat", self._heartbeat.forget)
            self._lifeline.close()
        self._notifier.close()
        self.database.close()
        self._events.emit(DaemonStopped(abandoned=abandoned, unsettled=unsettled))
        return abandoned + unsettled

    def _release_unstarted(self) -> None:
        """Give back what no worker has begun; through the completer, which tries again where the database fails."""
        for held in [*self._buffer.take_back(), *self._giving_back.take_back()]:
            self._completer.release(held)
        self._attempt("producer", self._giving_back.release_orphans)

    def _await_handlers(self, until: float) -> int:
        """Tell running handlers to stop, and wait; return how many run on."""
        for held in self._in_flight.running():
            if held.context is not None:
                held.context.stop("shutdown")
        working = list(self._slots)
        while working and time.monotonic() < until and not self._hurry:
            working = [slot for slot in working if not slot.join(0.02)]
        return sum(slot.state != "idle" for slot in working)

    def _flush_completer(self, until: float) -> int:
        """Have every ending written; return how many the database did not take in time."""
        self._completer.hurry()
        while self._completer.pending and time.monotonic() < until:
            self._loops["completer"].wake()
            self._loops["completer"].join(0.005)
        return self._completer.pending

    def _release_left_orphans(self, until: float) -> None:
        while self._giving_back.orphans_left and time.monotonic() < until:
            if not self._attempt("producer", self._giving_back.release_orphans):
                return
            time.sleep(LOOK_S)

    def _stop_loops(self, *names: str) -> None:
        stopping = [self._loops[name] for name in names if name in self._loops]
        for loop in stopping:
            loop.stop()
        for loop in stopping:
            loop.join(JOIN_S)

    def _attempt(self, part: str, action: Callable[[], None]) -> bool:
        """Do something last of all, and tell whether it succeeded.

        Where it fails, leases and rows that expire by themselves make up for it.
        """
        try:
            action()
        except Exception as error:  # noqa: BLE001 - reported, and stopping goes on
            self._events.emit(LoopFailed(loop=part, error=error, retry_s=0.0))
            return False
        return True

    def _add(self, name: str, tick: Callable[[], float], *, first_after_s: float = 0.0) -> None:
        self._loops[name] = Loop(name, tick, self._events.emit, first_after_s=first_after_s)

    def _waker(self, name: str) -> Callable[[], None]:
        """Return what wakes a loop that is made later, since parts and loops need each other."""

        def wake() -> None:
            self._loops[name].wake()

        return wake

    def _jobs_replaced(self) -> None:
        self._keeper.suspect()
        self._loops["lease keeper"].wake()

    def _notified(self) -> float:
        self._lifeline.notified()
        return self._producer.notified()

    def _note_leases(self, event: Event) -> None:
        if isinstance(event, JobsLeased):
            self._lifeline.notified()

    def _room_made(self) -> None:
        self._producer.room_made()

    def _mean_run_s(self) -> float | None:
        """Return how long a handler runs on average now, over the workers that have run any."""
        now = time.monotonic()
        means = [mean_s for slot in self._slots if (mean_s := slot.mean_or_current_s(now)) is not None]
        return sum(means) / len(means) if means else None

    def _row(self) -> WorkerRow:
        return WorkerRow(
            id=self.worker_id,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=__version__,
            concurrency=self._config.jobs.worker_concurrency,
            queues=self._config.jobs.queues,
            types=self._types,
        )


class DisabledDaemon:
    """What runs if `jobs.enabled` is false: AYB's legacy timer, which prunes webhook deliveries each hour.

    It starts and stops like a `Daemon`. The first hour it deletes nothing, so that a start by mistake does no harm.
    """

    def __init__(self, *, config: Config, url: str, events: Events, first_after_s: float = LEGACY_TURN_S) -> None:
        self.draining = threading.Event()
        self.database = open_database(config, url)
        self._events = events
        self._loop = Loop("legacy pruning", self._prune, events.emit, first_after_s=first_after_s)

    def start(self) -> None:
        """Start pruning."""
        self._loop.start()
        self._events.emit(DaemonDisabled())

    def loops(self) -> Sequence[Loop]:
        """Return the one loop, for health checks."""
        return (self._loop,)

    def slots(self) -> Mapping[str, int]:
        """Return nothing: there are no handlers."""
        return {}

    def hurry(self) -> None:
        """Do nothing: there are no handlers to wait for."""

    def stop(self, reason: str = "asked to stop") -> int:
        """Stop pruning, after the batch under way. No handler is ever left running."""
        self.draining.set()
        self._events.emit(DaemonStopping(reason=reason, running=0, timeout_s=JOIN_S))
        self._loop.stop()
        self._loop.join(JOIN_S)
        self.database.close()
        self._events.emit(DaemonStopped(abandoned=0))
        return 0

    def _prune(self) -> float:
        rows = prune_webhook_deliveries(self.database, self.draining.is_set)
        if rows:
            self._events.emit(RowsPruned(table="_ayb_webhook_deliveries", rows=rows))
        return LEGACY_TURN_S


def open_database(config: Config, url: str) -> Database:
    """Return the connections that a daemon with these settings uses; none is opened yet."""
    return Database(
        url,
        work_connections=config.database.work_connections or config.jobs.worker_concurrency,
        timeouts=Timeouts(connect_s=config.database.connect_timeout_s, statement_s=config.database.statement_timeout_s),
    )


def new_worker_id() -> str:
    """Return an id that no other start of a daemon has; host and process id are in it for people."""
    return f"{socket.gethostname()[:60]}:{os.getpid()}:{secrets.token_hex(6)}"
