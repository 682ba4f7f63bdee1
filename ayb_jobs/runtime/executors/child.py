"""What runs in the child process of isolated handlers: it takes one attempt at a time, and tells how each ended.

Orders come as packets, and it takes the next one when the one before has ended (see `orders`). What it tells goes over
another socket, each message a line of JSON: the daemon believes nothing else of a process in which anything may have
happened. What asks a handler to stop comes over a socket of its own, which a thread listens to, so that no order has to
pass from thread to thread.
"""

import fcntl
import json
import logging
import os
import resource
import signal
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, cast

import structlog

from ayb_jobs.errors import Discard, LeaseLost, PayloadUndecodable, Stopped
from ayb_jobs.forks import keep_from_children
from ayb_jobs.handlers.context import JobContext, StopReason
from ayb_jobs.handlers.isolation import find_handler
from ayb_jobs.handlers.job_type import JobType
from ayb_jobs.handlers.services import ContextServices
from ayb_jobs.model.lifecycle import Settlement
from ayb_jobs.model.results import Cancel, Result, Returned, Snooze, as_result
from ayb_jobs.runtime.executors.orders import COMES_APART, MOST_BYTES, Run, unpack
from ayb_jobs.runtime.executors.threads import Threads
from ayb_jobs.runtime.jobs.error_text import error_text
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Timeouts
from ayb_jobs.storage.queue.settling import Settled

MIB = 1024 * 1024
LENGTH_BYTES = 8
# Whoever looks for a process to kill because memory is short takes this one before any other.
FIRST_TO_GO = "1000"
# How often at most it is measured how much memory this process holds.
MEASURE_S = 0.05


class Settings(NamedTuple):
    """What a child is given as it starts. `types` are the isolated job types, each with its module."""

    url: str
    timeouts: Timeouts
    lease_s: float
    worker_id: str
    types: dict[str, str]
    memory_mib: int


def pack_settings(settings: Settings) -> bytes:
    """Return settings as bytes."""
    return json.dumps(settings._asdict() | {"timeouts": asdict(settings.timeouts)}).encode()


def unpack_settings(packed: bytes) -> Settings:
    """Return the settings that `pack_settings` made these bytes of."""
    settings = json.loads(packed)
    return Settings(**settings | {"timeouts": Timeouts(**settings["timeouts"])})


class Stop(NamedTuple):
    """An order: ask the handler that runs under this lease to stop."""

    lease_id: str
    reason: StopReason


def main(talking: int, ordering: int, stopping: int, lifeline: int) -> None:
    """Take orders until there are none any more.

    The arguments are descriptors: of the sockets on which it talks with the daemon, and on which orders and requests to
    stop come, and of the lifeline.
    """
    die_with(lifeline)
    talk, orders, stops = (socket.socket(fileno=number) for number in (talking, ordering, stopping))
    for kept in (talk, orders, stops):
        keep_from_children(kept)
    settings = unpack_settings(read_apart(talk))
    limit_memory(settings.memory_mib)
    Child(talk, orders, stops, settings).work()


def read_apart(talk: socket.socket) -> bytes:
    """Return what the daemon sent beside the packets, after its length; raises `EOFError` if it is gone."""
    return exactly(talk, int.from_bytes(exactly(talk, LENGTH_BYTES)))


def exactly(talk: socket.socket, count: int) -> bytes:
    """Return so many bytes; raises `EOFError` if there are fewer."""
    received = bytearray()
    while len(received) < count:
        part = talk.recv(min(count - len(received), MIB))
        if not part:
            raise EOFError
        received += part
    return bytes(received)


def die_with(lifeline: int) -> None:
    """Have the kernel kill this process and its children once the daemon's end of a pipe is gone.

    So they end with the daemon even if a handler's code never lets Python run. Elsewhere than on Linux, the thread that
    waits for orders notices.
    """
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpid())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)


def limit_memory(mib: int) -> None:
    """Let this process have so much memory, so that more raises `MemoryError` in it; 0 is no limit."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO, encoding="utf-8")
    if mib:
        with suppress(ValueError, OSError):  # the process may have less already
            resource.setrlimit(resource.RLIMIT_DATA, (mib * MIB, mib * MIB))


def memory_mib() -> int:
    """Return how much memory this process holds, or the most that it has held where only that can be known."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * resource.getpagesize() // MIB
    except (OSError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


class Memory:
    """How much memory this process holds, measured now and then."""

    def __init__(self) -> None:
        self._mib = 0
        self._measured = 0.0

    def mib(self) -> int:
        """Return what was measured a moment ago at most."""
        now = time.monotonic()
        if now - self._measured >= MEASURE_S:
            self._mib, self._measured = memory_mib(), now
        return self._mib


class Child:
    """Runs handlers in the process's main thread, while another thread hears which of them is to stop."""

    def __init__(self, talk: socket.socket, orders: socket.socket, stops: socket.socket, settings: Settings) -> None:
        self._talk = talk
        self._orders = orders
        self._stops = stops
        self._settings = settings
        self._sending = threading.Lock()
        self._current: JobContext | None = None
        self._to_stop: Stop | None = None
        self._types: dict[str, JobType] = {}
        self._run = Threads().run
        self._memory = Memory()
        self._services = ContextServices(
            database=Database(settings.url, name="ayb-jobs-child", work_connections=1, timeouts=settings.timeouts),
            lease_s=settings.lease_s,
            logger=structlog.wrap_logger(None, processors=[self._log]),
            worker_id=settings.worker_id,
            settled=self._tell_settled,
        )

    def work(self) -> None:
        """Import the handlers, then run what is ordered, until the daemon is gone."""
        logging.getLogger().addHandler(Forwarding(self._log_library))
        try:
            self._types = {name: find_handler(module, name) for name, module in self._settings.types.items()}
        except BaseException as error:  # whatever a module raises, the daemon is told
            self._tell(failed=error_text(error))
            return
        threading.Thread(target=self._hear_stops, name="stops", daemon=True).start()
        self._tell(ready=True)
        with suppress(EOFError, OSError):
            while packet := self._orders.recv(MOST_BYTES):
                self._attempt(unpack(read_apart(self._talk) if packet == COMES_APART else packet))

    def _tell_settled(self, settlement: Settlement, written: Settled) -> None:
        self._tell(settled=settlement.records, unlogged=bool(written.unlogged))

    def _hear_stops(self) -> None:
        """Have handlers asked to stop until the daemon is gone; then nothing that runs here matters any more."""
        with suppress(OSError), self._stops.makefile(encoding="ascii") as lines:
            for line in lines:
                lease_id, reason = line.split()
                self._to_stop = Stop(lease_id, cast(StopReason, reason))
                self._stop_current()
        os._exit(1)

    def _stop_current(self) -> None:
        """Ask the handler to stop if it is the one that is to; in whichever thread finds that out last."""
        current, to_stop = self._current, self._to_stop
        if current is not None and to_stop is not None and current.job.lease_id == to_stop.lease_id:
            current.stop(to_stop.reason)

    def _attempt(self, order: Run) -> None:
        now = time.monotonic()
        context = self._current = JobContext(
            order.job, self._services, None if order.timeout_s is None else now + order.timeout_s, now
        )
        self._stop_current()
        try:
            result = as_result(self._run(self._types[context.job.type], context))
        except BaseException as error:  # even SystemExit ends the attempt, not the child
            end: dict[str, Any] = {"raised": error_text(error), "kind": kind_of(error)}
        else:
            end = {"returned": to_json(result)}
        self._current = None
        self._tell(**end, records=context.records_processed, memory_mib=self._memory.mib())

    def _tell(self, **message: Any) -> None:
        """Send a message; if nobody takes it, this process is of no use any more."""
        line = as_json(message).encode() + b"\n"
        try:
            with self._sending:
                self._talk.sendall(line)
        except OSError:
            os._exit(1)

    def _log(self, _: Any, level: str, fields: Any) -> Any:
        """Have the daemon write a line; structlog calls this as its last processor."""
        if fields.get("exc_info"):
            fields = structlog.processors.format_exc_info(None, level, fields)
        self._tell(line=level, fields=fields)
        raise structlog.DropEvent

    def _log_library(self, record: logging.LogRecord, text: str) -> None:
        self._tell(library=record.name, level=record.levelno, text=text)


as_json = json.JSONEncoder(default=str).encode


class Forwarding(logging.Handler):
    """Hands on what libraries and handlers write to Python's logging."""

    def __init__(self, tell: Any) -> None:
        super().__init__()
        self._forward = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Hand on a record, with its traceback."""
        with suppress(Exception):
            self._forward(record, self.format(record))


KINDS = (Discard, PayloadUndecodable, LeaseLost, Stopped)


def kind_of(error: BaseException) -> str:
    """Return the name of the exception of ours that this one is, or ""."""
    return next((kind.__name__ for kind in KINDS if isinstance(error, kind)), "")


def to_json(result: Result) -> Any:
    """Return what a handler returned, as JSON can hold it."""
    match result:
        case Snooze():
            return {"snooze": result.seconds}
        case Cancel():
            return {"cancel": result.reason}
        case Returned():
            return {"kept": result.text}
        case _:
            return {"value": result}
