"""The wiring of what runs handlers: slots with threads, slots with child processes, the event loop."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from typing import NamedTuple, get_args

from ayb_jobs.config import Config, Jobs
from ayb_jobs.errors import ConfigError
from ayb_jobs.events import Emit
from ayb_jobs.frozen import frozen
from ayb_jobs.handlers.isolation import isolation_faults
from ayb_jobs.handlers.job_type import Executor
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.runtime.executors.ahead import Ahead
from ayb_jobs.runtime.executors.child import Settings
from ayb_jobs.runtime.executors.event_loop import EventLoop
from ayb_jobs.runtime.executors.forking import ForkServer
from ayb_jobs.runtime.executors.processes import Processes
from ayb_jobs.runtime.executors.threads import Threads
from ayb_jobs.runtime.jobs.attempts import Attempts
from ayb_jobs.runtime.jobs.backlog import Backlog
from ayb_jobs.runtime.jobs.buffer import Buffer
from ayb_jobs.runtime.jobs.in_flight import Held, InFlight
from ayb_jobs.runtime.jobs.payloads import Payloads
from ayb_jobs.runtime.jobs.room import Room
from ayb_jobs.runtime.jobs.slot import Slot
from ayb_jobs.storage.async_database import AsyncDatabase
from ayb_jobs.storage.database import Timeouts


@frozen
class Surroundings:
    """What all executors of a daemon share. `ring` wakes the producer, `ring_watch` who watches the event loop."""

    config: Config
    url: str
    registry: Registry
    worker_id: str
    attempts: Attempts
    payloads: Payloads
    in_flight: InFlight
    emit: Emit
    ring: Callable[[], None]
    ring_watch: Callable[[], None]


class Wanted(NamedTuple):
    """What a look for jobs needs to know of an executor: its types, its room, where jobs go, and what wakes it."""

    types: Sequence[str]
    room: Callable[[], int]
    put: Callable[[Sequence[Held]], bool]
    backlog: Backlog


@frozen
class Executors:
    """All that runs handlers; nothing runs yet. `isolated` are places with child processes, if any type needs one."""

    threads: "Places"
    isolated: "Places | None"
    processes: Sequence[Processes]
    fork_server: ForkServer
    event_loop: EventLoop | None
    wanted: Sequence[Wanted]

    @property
    def slots(self) -> Sequence[Slot]:
        """Every slot, those with processes too."""
        return [slot for places in self._places for slot in places.slots if not slot.has_ended]

    def stuck(self) -> tuple[int, int]:
        """Return how many slots, and how many asynchronous ones, are held by handlers that did not stop when told."""
        in_loop = 0 if self.event_loop is None else self.event_loop.stuck
        return sum(slot.state == "stuck" for slot in self.slots), in_loop

    @property
    def buffers(self) -> Sequence[Buffer]:
        """What feeds the slots and the event loop."""
        loops = [] if self.event_loop is None else [self.event_loop]
        return [places.buffer for places in self._places] + [loop.buffer for loop in loops]

    @property
    def _places(self) -> "Sequence[Places]":
        return [self.threads] if self.isolated is None else [self.threads, self.isolated]

    def start(self) -> None:
        """Start every thread."""
        if self.event_loop is not None:
            self.event_loop.start()
        for slot in self.slots:
            slot.start()

    def close(self) -> None:
        """Begin no more handlers."""
        for buffer in self.buffers:
            buffer.close()

    def running(self) -> int:
        """Return how many handlers run."""
        busy = sum(not slot.join(0) and slot.state != "idle" for slot in self.slots)
        return busy + (0 if self.event_loop is None else self.event_loop.running())

    def running_jobs(self) -> list[Held]:
        """Return the jobs whose handlers run."""
        jobs = [current for slot in self.slots if (current := slot.current) is not None]
        return jobs if self.event_loop is None else jobs + self.event_loop.held()

    def end_stopped(self) -> None:
        """End the handlers that were told to stop and can be ended: those in child processes and on the event loop."""
        for process in self.processes:
            process.kill()
        if self.event_loop is not None:
            self.event_loop.cancel_all()

    def are_ending(self) -> bool:
        """Tell whether any that can be ended still run."""
        isolated = self.isolated is not None and any(not slot.join(0) for slot in self.isolated.slots)
        return isolated or bool(self.event_loop and self.event_loop.running())

    def stop(self) -> None:
        """End the event loop and the child processes."""
        if self.event_loop is not None:
            self.event_loop.stop()
        for process in self.processes:
            process.close()
        self.fork_server.close()


def build_executors(around: Surroundings) -> Executors:
    """Make what the registered job types need; raises `ConfigError` for an isolated one that no child could find."""
    types = types_by_executor(around.registry)
    event_loop = None
    fork_server = ForkServer(modules_of(around.registry, types["process"]))
    wanted = []
    threads, threads_wanted = slots_for(around, types["thread"], lambda _: list(thread_executors(around)), "slot")
    if types["thread"]:
        wanted.append(threads_wanted)
    isolated: Places | None = None
    if types["process"]:
        make = partial(make_processes, around, fork_server, types["process"])
        isolated, isolated_wanted = slots_for(around, types["process"], make, "process-slot")
        wanted.append(isolated_wanted)
    if types["async"]:
        backlog = Backlog(around.ring)
        event_loop = make_event_loop(around, backlog)
        room = Room(
            buffer=event_loop.buffer,
            in_flight=around.in_flight,
            concurrency=around.config.jobs.async_concurrency,
            mean_run_s=event_loop.mean_run_s,
        )
        wanted.append(Wanted(types["async"], room.jobs, event_loop.put, backlog))
    return Executors(
        threads=threads,
        isolated=isolated,
        processes=[] if isolated is None else isolated.processes,
        fork_server=fork_server,
        event_loop=event_loop,
        wanted=wanted,
    )


@frozen
class Places:
    """Slots, the buffer that feeds them, what counts their room, and how one more is made."""

    slots: list[Slot]
    buffer: Buffer
    room: Room
    make: Callable[[], Slot]
    processes: list[Processes]

    def resize(self, concurrency: int) -> None:
        """Have so many slots from now on. Those too many end with the job that they run; to be called by one thread."""
        self.slots[:] = [slot for slot in self.slots if not slot.has_ended]
        for _ in range(self.buffer.resize(concurrency)):
            slot = self.make()
            self.slots.append(slot)
            slot.start()
        self.room.resize(concurrency)


def thread_executors(around: Surroundings) -> Iterator[Threads]:
    """Yield what runs handlers in threads, once for each slot."""
    threads = Threads()
    for _ in range(around.config.jobs.worker_concurrency):
        yield threads


def slots_for(
    around: Surroundings,
    types: Sequence[str],
    executors_for: Callable[[Buffer], Sequence[Threads | Processes]],
    name: str,
) -> tuple[Places, Wanted]:
    """Return a slot for each executor that is made for their buffer, and what is to be leased for them."""
    backlog = Backlog(around.ring)
    buffer = Buffer(on_low=backlog.room_made, paused=around.attempts.paused)
    executors = executors_for(buffer)
    buffer.resize(len(executors))
    numbers = count(1)
    find = {job_type.name: job_type for job_type in around.registry.types()}.get

    def make(executor: Threads | Processes) -> Slot:
        return Slot(
            name=f"{name}-{next(numbers)}",
            buffer=buffer,
            find=find,
            execute=executor.run,
            attempts=around.attempts,
            payloads=around.payloads,
            emit=around.emit,
            take=partial(executor.next, buffer.take) if isinstance(executor, Processes) else None,
        )

    slots = [make(executor) for executor in executors]
    room = Room(
        buffer=buffer, in_flight=around.in_flight, concurrency=len(slots), mean_run_s=partial(mean_run_s, slots)
    )
    processes = [executor for executor in executors if isinstance(executor, Processes)]
    places = Places(slots=slots, buffer=buffer, room=room, make=partial(make, executors[0]), processes=processes)
    return places, Wanted(types, room.jobs, buffer.put, backlog)


def modules_of(registry: Registry, types: Sequence[str]) -> Sequence[str]:
    """Return the modules in which these types are registered, in that order."""
    return list(dict.fromkeys(job_type.module for job_type in registry.types() if job_type.name in types))


def make_processes(
    around: Surroundings, fork_server: ForkServer, types: Sequence[str], buffer: Buffer
) -> list[Processes]:
    """Return what runs isolated handlers, one for each slot."""
    if faults := list(isolation_faults(around.registry)):
        raise ConfigError(faults)
    jobs = around.config.jobs
    settings = Settings(
        url=around.url,
        timeouts=timeouts_of(around.config),
        lease_s=jobs.lease_duration_s,
        worker_id=around.worker_id,
        types={one.name: one.module for one in around.registry.types() if one.name in types},
        memory_mib=jobs.process_memory_mib,
    )
    return [
        Processes(
            name=f"process-slot-{number}",
            settings=settings,
            fork_server=fork_server,
            most_runs=jobs.process_max_jobs,
            ahead=Ahead(buffer, around.registry.get),
            emit=around.emit,
        )
        for number in range(1, isolated_slots(jobs) + 1)
    ]


def make_event_loop(around: Surroundings, backlog: Backlog) -> EventLoop:
    """Return what runs asynchronous handlers; no connection of theirs is opened before one of them asks."""
    return EventLoop(
        concurrency=around.config.jobs.async_concurrency,
        find=around.registry.get,
        attempts=around.attempts,
        payloads=around.payloads,
        database=AsyncDatabase(
            around.url,
            work_connections=around.config.database.async_connections,
            timeouts=timeouts_of(around.config),
        ),
        emit=around.emit,
        on_room=backlog.room_made,
        on_work=around.ring_watch,
    )


def isolated_slots(jobs: Jobs) -> int:
    """Return how many isolated handlers run at once."""
    return jobs.process_concurrency or processors()


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def types_by_executor(registry: Registry) -> Mapping[Executor, Sequence[str]]:
    """Return the names of the job types that each executor runs."""
    return {
        executor: [job_type.name for job_type in registry.types() if job_type.executor == executor]
        for executor in get_args(Executor)
    }


def mean_run_s(slots: Sequence[Slot]) -> float | None:
    """Return how long a handler runs on average now, over the slots that have run any."""
    now = time.monotonic()
    means = [mean_s for slot in slots if (mean_s := slot.mean_or_current_s(now)) is not None]
    return sum(means) / len(means) if means else None


def timeouts_of(config: Config) -> Timeouts:
    """Return how long the daemon waits for connections and statements."""
    return Timeouts(connect_s=config.database.connect_timeout_s, statement_s=config.database.statement_timeout_s)
