"""Starts the parts of a daemon, and stops them in order."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Self, get_args

from structlog.typing import FilteringBoundLogger

from ayb_jobs.config import Config
from ayb_jobs.daemon.build import JOIN_S, build
from ayb_jobs.events import DaemonDraining, DaemonStarted, DaemonStopped, DaemonStopping, Events, LoopFailed
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.runtime.bell import Bell
from ayb_jobs.runtime.jobs.slot import SlotState
from ayb_jobs.runtime.loop import Loop
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.schedules.fires import Served

# What a first lease needs. The other loops start once it is done, or after FIRST_LOOK_S: a dozen threads that connect
# at once would take the processor from it.
FIRST_LOOPS = ("lease keeper", "watchdog", "completer", "producer")
FIRST_LOOK_S = 0.5
# What is written at the very end (endings, releases) may take this long beyond the shutdown timeout.
FLUSH_S = 5.0
# How long handlers may take over being canceled or killed.
END_S = 2.0
# How often locked rows are tried again meanwhile.
LOOK_S = 0.05


class Daemon:
    """One daemon on one database: every part of it, and every thread.

    `start` may come once, on a database whose schema is up to date; `stop` even before it. `draining` is set once it
    stops or drains. `on_drain_asked` is called in another thread once an operator asks for a drain, with each beat
    again; whoever runs the daemon then calls `drain`.
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
        self.draining = threading.Event()
        self.on_drain_asked: Callable[[], None] = lambda: None
        self._config = config
        self._queues: Sequence[str] = config.jobs.queues
        self._events = events
        self._hurry = False
        self._moment = Bell()
        self._parts = build(
            config=config,
            url=url,
            registry=registry,
            events=events,
            logger=logger,
            worker_id=worker_id,
            draining=self.draining,
            on_drain=self._tell_drain_asked,
        )

    def __enter__(self) -> Self:
        """Start every thread."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop every part, in order; see `stop`."""
        self.stop("end of the block")

    @property
    def worker_id(self) -> str:
        """The daemon's id, which no other start has."""
        return self._parts.daemon.id

    @property
    def database(self) -> Database:
        """The daemon's connections, for those who serve it over HTTP."""
        return self._parts.database

    def start(self) -> None:
        """Start every thread; return once it has looked for jobs, or soon."""
        loops = dict(self._parts.loops)
        first = [loops.pop(name) for name in FIRST_LOOPS]
        self._parts.executors.start()
        for loop in first:
            loop.start()
        self._tell_started()
        self._parts.loops["producer"].await_first_turn(FIRST_LOOK_S)
        for loop in loops.values():
            loop.start()

    def _tell_started(self) -> None:
        jobs, daemon = self._config.jobs, self._parts.daemon
        self._events.emit(
            DaemonStarted(
                worker_id=daemon.id,
                concurrency=daemon.concurrency,
                job_types=daemon.types,
                queues=daemon.queues,
                scheduler=jobs.scheduler_enabled,
            )
        )

    def loops(self) -> Sequence[Loop]:
        """Return every loop that was not told to stop, for health checks."""
        return tuple(loop for loop in self._parts.loops.values() if not loop.stopped)

    def tell_stuck(self, find: Callable[[], Sequence[str]]) -> None:
        """Have the daemon's row tell, with each beat, the names that `find` returns: of loops that make no progress."""
        self._parts.heartbeat.find_stuck = find

    def queues(self) -> Sequence[str]:
        """Return the queues that it serves."""
        return self._queues

    def slots(self) -> Mapping[str, int]:
        """Return how many handler slots are idle, busy and stuck."""
        counts = Counter(slot.state for slot in self._parts.executors.slots)
        return {state: counts[state] for state in get_args(SlotState)}

    def drain(self, reason: str) -> int:
        """Take no more jobs, and release what has not started; return how many handlers still run.

        Nothing tells them to stop, and no timeout waits: call it again until none runs, then `stop`.
        """
        executors = self._parts.executors
        if not self.draining.is_set():
            self.draining.set()
            self._events.emit(DaemonDraining(reason=reason, running=executors.running()))
            self._tell_peers_of_drain()
            self._parts.notifier.interrupt()
            self._stop_loops("scheduler", "notifier")
            executors.close()
            self._stop_loops("producer")
            self._release_unstarted()
        return executors.running()

    def serve(self, *, concurrency: int, queues: Sequence[str], most: Mapping[str, int]) -> None:
        """Run so many handlers at once, of these queues, and of each of `most` so many, from now on.

        What is leased or runs already is not touched.
        """
        parts = self._parts
        parts.executors.threads.resize(concurrency)
        if not self._config.database.work_connections:
            self.database.resize(concurrency)
        parts.producer.serve(queues, most)
        daemon = replace(parts.daemon, concurrency=concurrency, queues=queues, queue_slots=dict(most))
        if parts.scheduler is not None:
            parts.scheduler.serve(Served(daemon.types, daemon.queues))
        self._queues = queues
        parts.lifeline.describe(daemon)
        parts.heartbeat.describe(daemon)
        parts.loops["heartbeat"].wake()

    def log_to(self, logger: FilteringBoundLogger) -> None:
        """Have handlers that begin from now on log to this."""
        self._parts.attempts.services = replace(self._parts.attempts.services, logger=logger)

    def hurry(self) -> None:
        """Have a stop that is under way wait no longer for handlers."""
        self._hurry = True
        self._moment.ring()

    def stop(self, reason: str = "asked to stop") -> int:
        """Stop every part, in order.

        Return how many jobs are left: handlers still run, or their endings are not written.

        Jobs that never started are released, with their attempt. Handlers that run are told to stop and waited
        for; those that run on keep their jobs until the process has ended, which peers notice by the lifeline, or until
        the leases expire.
        """
        self.draining.set()
        timeout_s, running = self._config.jobs.shutdown_timeout_s, self._parts.executors.running()
        self._events.emit(DaemonStopping(reason=reason, running=running, timeout_s=timeout_s))
        self._tell_peers_of_drain()
        self._parts.notifier.interrupt()
        self._stop_loops("scheduler", "recoverer", "pruner", "pauses", "limits", "notifier")
        for name in self._parts.alerting:
            self._parts.loops[name].stop()  # not waited for: what an address has not taken, another daemon delivers
        self._parts.executors.close()
        self._stop_loops("producer")
        self._release_unstarted()
        abandoned = self._await_handlers(time.monotonic() + timeout_s)
        self._parts.spawner.close()  # a command that runs on is killed
        self._release_unstarted()  # what a statement has leased that was still under way
        unsettled = self._flush_completer(time.monotonic() + FLUSH_S)
        self._release_left_orphans(time.monotonic() + FLUSH_S)
        self._parts.executors.stop()
        self._stop_loops(
            "completer",
            "resolver",
            "batch resolver",
            "watchdog",
            "lease keeper",
            "lifeline",
            "heartbeat",
            "event loop watch",
            "tallier",
        )
        self._attempt("tallier", self._parts.tallier.flush)
        if not ((abandoned or unsettled) and self._parts.lifeline.held):
            # Else the end of the process is what tells the peers that nobody runs these jobs any more.
            self._attempt("heartbeat", self._parts.heartbeat.forget)
            self._parts.lifeline.close()
        self._parts.notifier.close()
        self.database.close()
        self._events.emit(DaemonStopped(abandoned=abandoned, unsettled=unsettled))
        return abandoned + unsettled

    def _release_unstarted(self) -> None:
        """Release what no slot has begun; through the completer, which tries again where the database fails."""
        unstarted = [held for buffer in self._parts.executors.buffers for held in buffer.take_back()]
        for held in [*unstarted, *self._parts.releaser.take_back()]:
            self._parts.completer.release(held)
        self._attempt("producer", self._parts.releaser.release_orphans)

    def _await_handlers(self, until: float) -> int:
        """Tell running handlers to stop, and wait; end those that can be ended; return how many run on."""
        executors = self._parts.executors
        self._tell_handlers()
        while executors.running() and time.monotonic() < until and not self._hurry:
            self._moment.wait(LOOK_S / 2)
        self._tell_handlers()  # those that began meanwhile
        executors.end_stopped()
        until = time.monotonic() + END_S
        while executors.are_ending() and time.monotonic() < until:
            self._moment.wait(LOOK_S / 2)
        return executors.running()

    def _tell_peers_of_drain(self) -> None:
        """Have the daemon's row say that it takes no more jobs; nobody waits for it."""
        self._parts.heartbeat.drain()
        self._parts.loops["heartbeat"].wake()

    def _tell_drain_asked(self) -> None:
        self.on_drain_asked()

    def _tell_handlers(self) -> None:
        for held in self._parts.in_flight.running():
            if held.context is not None:
                held.context.stop("shutdown")

    def _flush_completer(self, until: float) -> int:
        """Have every ending written; return how many the database did not take in time."""
        self._parts.completer.hurry()
        while self._parts.completer.pending and time.monotonic() < until:
            self._parts.loops["completer"].wake()
            self._parts.loops["completer"].join(0.005)
        return self._parts.completer.pending

    def _release_left_orphans(self, until: float) -> None:
        while self._parts.releaser.orphans_left and time.monotonic() < until:
            if not self._attempt("producer", self._parts.releaser.release_orphans):
                return
            self._moment.wait(LOOK_S)

    def _stop_loops(self, *names: str) -> None:
        stopping = [self._parts.loops[name] for name in names if name in self._parts.loops]
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
