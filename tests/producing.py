"""A producer and what gives jobs back, put together as the daemon does it."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ayb_jobs.runtime.jobs.backlog import Backlog
from ayb_jobs.runtime.jobs.buffer import Buffer
from ayb_jobs.runtime.jobs.in_flight import InFlight
from ayb_jobs.runtime.jobs.leasing import Leasing
from ayb_jobs.runtime.jobs.limits import Limits
from ayb_jobs.runtime.jobs.look import Look
from ayb_jobs.runtime.jobs.producer import Producer
from ayb_jobs.runtime.jobs.queue_slots import QueueSlots
from ayb_jobs.runtime.jobs.releaser import Releaser
from ayb_jobs.runtime.jobs.room import Room
from ayb_jobs.storage.connections import Database


class Producing(NamedTuple):
    producer: Producer
    releaser: Releaser
    look: Look


def producing(
    db: Database,
    buffer: Buffer,
    in_flight: InFlight,
    *,
    worker_id: str = "w",
    concurrency: int = 4,
    lease_s: float = 300.0,
    poll_s: float = 1.0,
    emit: Callable[[object], None] = lambda _: None,
    mean_run_s: Callable[[], float | None] = lambda: None,
    backlog: Backlog | None = None,
    limits: Limits | None = None,
    queues: Sequence[str] = ("default",),
    slots: Mapping[str, int] | None = None,
) -> Producing:
    """Make a producer of jobs of type `test`."""
    releaser = Releaser(database=db, buffers=[buffer], in_flight=in_flight, emit=emit, worker_id=worker_id)
    backlog = backlog or Backlog(lambda: None)
    room = Room(buffer=buffer, in_flight=in_flight, concurrency=concurrency, mean_run_s=mean_run_s)
    filled = QueueSlots(slots, in_flight=in_flight)
    look = Look(
        database=db,
        leasing=Leasing(
            worker_id=worker_id,
            queues=queues,
            types=["test"],
            lease_s=lease_s,
            poll_s=poll_s,
            limits=limits or Limits(exist=False),
            slots=filled,
        ),
        room=room.jobs,
        put=buffer.put,
        in_flight=in_flight,
        releaser=releaser,
        emit=emit,
        backlog=backlog,
    )
    producer = Producer(
        looks=[look],
        releaser=releaser,
        limits=limits or Limits(exist=False),
        slots=filled,
        emit=emit,
        poll_s=poll_s,
        ring=backlog.ring,
    )
    return Producing(producer, releaser, look)
