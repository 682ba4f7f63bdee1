"""The wiring of a daemon: every part made once, in the order of a job's life, and tied to what was made before it.

Bells come first, so that a part may ring a loop that is made after it.
"""

import random
import threading
from collections.abc import Callable
from functools import partial

from structlog.typing import FilteringBoundLogger

from ayb_jobs.config import Config
from ayb_jobs.config.tables import STOPPING_S
from ayb_jobs.daemon.executing import (
    Executors,
    Surroundings,
    build_executors,
    timeouts_of,
)
from ayb_jobs.daemon.identity import describe, most_of
from ayb_jobs.daemon.parts import Bells, Parts
from ayb_jobs.events import Events
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.handlers.services import ContextServices
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.redact import Redactor
from ayb_jobs.runtime.chores.alerter import alert_chores
from ayb_jobs.runtime.chores.pruner import Pruner
from ayb_jobs.runtime.chores.scheduler import Scheduler
from ayb_jobs.runtime.chores.tallier import tallied
from ayb_jobs.runtime.executors.loop_watch import LoopWatch
from ayb_jobs.runtime.fleet.aside_board import AsideBoard
from ayb_jobs.runtime.fleet.heartbeat import Heartbeat
from ayb_jobs.runtime.fleet.lifeline import LifelineKeeper
from ayb_jobs.runtime.fleet.limit_watch import LimitWatch
from ayb_jobs.runtime.fleet.pause_watch import PauseWatch
from ayb_jobs.runtime.fleet.recoverer import Recoverer
from ayb_jobs.runtime.hearing import Hearing
from ayb_jobs.runtime.jobs.attempts import Attempts, Endings
from ayb_jobs.runtime.jobs.batch_resolver import BatchResolver
from ayb_jobs.runtime.jobs.completer import Completer
from ayb_jobs.runtime.jobs.in_flight import InFlight
from ayb_jobs.runtime.jobs.lease_keeper import LeaseKeeper
from ayb_jobs.runtime.jobs.leasing import Leasing
from ayb_jobs.runtime.jobs.limits import Limits
from ayb_jobs.runtime.jobs.look import Look
from ayb_jobs.runtime.jobs.paused import Paused
from ayb_jobs.runtime.jobs.payloads import Payloads
from ayb_jobs.runtime.jobs.producer import Producer
from ayb_jobs.runtime.jobs.queue_slots import QueueSlots
from ayb_jobs.runtime.jobs.releaser import Releaser
from ayb_jobs.runtime.jobs.resolver import Resolver
from ayb_jobs.runtime.jobs.watchdog import Watchdog
from ayb_jobs.runtime.loop import Loop
from ayb_jobs.runtime.notifier import (
    BATCH_SEALED,
    DRAIN_ASKED,
    JOBS_BLOCKED,
    JOBS_CANCELED,
    LIMITS_CHANGED,
    PAUSES_CHANGED,
    SCHEDULE_CHANGED,
    Notifier,
)
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.listener import Listener
from ayb_jobs.storage.schedules.fires import Served

# How long a loop's last turn is waited for; a statement that hangs must not keep the process.
JOIN_S = 10.0
# What was missed while no daemon ran is caught up first, and is then no reason for an alert.
ALERT_AFTER_S = 2.0
# What waited for a daemon begins before what is old is removed, and before it is counted for the charts.
PRUNE_AFTER_S = 2.0
TALLY_AFTER_S = 10.0


def build(
    *,
    config: Config,
    url: str,
    registry: Registry,
    events: Events,
    logger: FilteringBoundLogger,
    worker_id: str,
    draining: threading.Event,
    on_drain: Callable[[], None],
) -> Parts:
    """Make every part of a daemon; nothing runs and nothing is connected yet.

    `on_drain` is called, again and again, once an operator asks for a drain.
    """
    jobs, emit, backoff = config.jobs, events.emit, Backoff()
    direct_url = config.database.direct_url or url
    lease_s = jobs.lease_duration_s
    daemon = describe(config, registry, worker_id)
    bells, hearing = Bells(), Hearing()
    database = open_database(config, url)
    in_flight = InFlight()
    mask = Redactor(config.secrets())

    # Settling, which running calls.
    completer = Completer(
        database=database,
        in_flight=in_flight,
        emit=emit,
        worker_id=worker_id,
        backoff=backoff,
        remove_completed=config.retention.completed_h == 0,
        wake=bells.completer.ring,
        redact=mask,
    )
    # Running, which leasing feeds.
    services = ContextServices(
        database=database,
        lease_s=lease_s,
        logger=logger,
        worker_id=worker_id,
        settled=completer.settled,
        shutdown_s=jobs.shutdown_timeout_s,
        mask=mask,
        emit=emit,
    )
    paused, limits = Paused(bells.pauses.ring), Limits()
    attempts = Attempts(
        services=services,
        backoff=backoff,
        endings=Endings(
            settle=completer.settle,
            release=completer.release,
            late=lambda held: producer.slot_freed(held.job.queue),
        ),
        paused=paused,
    )
    executors = build_executors(
        Surroundings(
            config=config,
            url=url,
            registry=registry,
            worker_id=worker_id,
            attempts=attempts,
            payloads=Payloads(database=database),
            in_flight=in_flight,
            emit=emit,
            ring=bells.producer.ring,
            ring_watch=bells.loop_watch.ring,
        )
    )
    # Leasing: a look for each executor, once the fleet can see the daemon.
    aside_board = AsideBoard(ring=bells.heartbeat.ring)
    events.subscribe(aside_board.hear)
    heartbeat = Heartbeat(
        database=database,
        daemon=daemon,
        emit=emit,
        on_pauses=bells.pauses.ring,
        on_limits=bells.limits.ring,
        on_drain=on_drain,
        set_aside=aside_board.rows,
    )
    releaser = Releaser(
        database=database, buffers=executors.buffers, in_flight=in_flight, emit=emit, worker_id=worker_id
    )
    slots, poll_s = slots_of(config, in_flight, executors), jobs.poll_interval_ms / 1000
    leasing = partial(
        Leasing, worker_id=worker_id, queues=jobs.queues, lease_s=lease_s, poll_s=poll_s, limits=limits, slots=slots
    )
    make_look = partial(Look, database=database, in_flight=in_flight, releaser=releaser, emit=emit)
    looks = [
        make_look(leasing=leasing(types=types), room=room, put=put, backlog=backlog)
        for types, room, put, backlog in executors.wanted
    ]
    producer = Producer(
        looks=looks,
        releaser=releaser,
        limits=limits,
        slots=slots,
        emit=emit,
        poll_s=poll_s,
        ring=bells.producer.ring,
        announce=heartbeat.announce,
    )
    # Beside what runs.
    lease_keeper = LeaseKeeper(
        database=database, in_flight=in_flight, emit=emit, lease_s=lease_s, wake=bells.lease_keeper.ring
    )
    watchdog = Watchdog(
        in_flight=in_flight,
        settle=completer.settle,
        emit=emit,
        backoff=backoff,
        chance=random.random,
        lease_s=lease_s,
        stopping_s=partial(stopping_s, registry),
        wake=bells.watchdog.ring,
    )
    resolver = Resolver(database=database, emit=emit, wake=bells.resolver.ring, hearing=hearing)
    batch_resolver = BatchResolver(database=database, emit=emit, wake=bells.batch_resolver.ring, hearing=hearing)
    heartbeat.on_edges, heartbeat.on_batches = resolver.seen, batch_resolver.seen
    heartbeat.count_stuck = executors.stuck
    # The fleet.
    pauses = PauseWatch(
        database=database, worker_id=worker_id, paused=paused, in_flight=in_flight, on_change=producer.begin_anew
    )
    limit_watch = LimitWatch(
        database=database,
        worker_id=worker_id,
        limits=limits,
        paused=paused,
        in_flight=in_flight,
        on_change=producer.begin_anew,
        emit=emit,
    )
    lifeline = LifelineKeeper(
        database=database,
        url=direct_url,
        daemon=daemon,
        emit=emit,
        backoff=backoff,
        max_crashes=jobs.max_crashes,
        lease_s=lease_s,
        wake=bells.lifeline.ring,
        on_dead=(resolver.told, batch_resolver.told),
    )
    for hear in (producer.hear, watchdog.hear, resolver.hear, batch_resolver.hear, lifeline.hear):
        events.subscribe(hear)
    recoverer = Recoverer(database=database, emit=emit, backoff=backoff, max_crashes=jobs.max_crashes, lease_s=lease_s)
    notifier = Notifier(
        connect=partial(listen, database, direct_url),
        emit=emit,
        look=producer.notified,
        on_any=lifeline.notified,
        on_word={
            JOBS_CANCELED: lease_keeper.suspect,
            SCHEDULE_CHANGED: bells.scheduler.ring,
            PAUSES_CHANGED: bells.pauses.ring,
            JOBS_BLOCKED: resolver.told,
            BATCH_SEALED: batch_resolver.told,
            LIMITS_CHANGED: bells.limits.ring,
            DRAIN_ASKED: bells.heartbeat.ring,
        },
        on_ended=(resolver.ended, batch_resolver.ended),
        hearing=hearing,
    )
    # Chores.
    pruner = Pruner(database=database, retention=config.retention, emit=emit, stopping=draining)
    tallier = tallied(database, events)
    alerting = alert_chores(config.alerts, database, events)

    loops = [
        Loop("lease keeper", lease_keeper.tick, emit, bell=bells.lease_keeper),
        Loop("watchdog", watchdog.tick, emit, bell=bells.watchdog),
        Loop("completer", completer.tick, emit, bell=bells.completer),
        Loop("producer", producer.tick, emit, bell=bells.producer),
        Loop("resolver", resolver.tick, emit, bell=bells.resolver),
        Loop("batch resolver", batch_resolver.tick, emit, bell=bells.batch_resolver),
        Loop("recoverer", recoverer.tick, emit),
        Loop("heartbeat", heartbeat.tick, emit, bell=bells.heartbeat),
        Loop("lifeline", lifeline.tick, emit, bell=bells.lifeline),
        Loop("pruner", pruner.tick, emit, first_after_s=PRUNE_AFTER_S),
        Loop("tallier", tallier.tick, emit, first_after_s=TALLY_AFTER_S),
        Loop("pauses", pauses.tick, emit, bell=bells.pauses),
        Loop("limits", limit_watch.tick, emit, bell=bells.limits),
    ]
    if config.database.notify:
        loops.append(Loop("notifier", notifier.tick, emit))
    loops += [
        Loop(name, chore.tick, emit, bell=chore.bell, first_after_s=ALERT_AFTER_S) for name, chore in alerting.items()
    ]
    if (event_loop := executors.event_loop) is not None:
        watch = LoopWatch(is_at_work=event_loop.is_at_work, step=event_loop.step, emit=emit)
        loops.append(Loop("event loop watch", watch.tick, emit, bell=bells.loop_watch))
    scheduler: Scheduler | None = None
    if jobs.scheduler_enabled:
        scheduler = Scheduler(
            database, tick_s=jobs.scheduler_tick_s, emit=emit, served=Served(daemon.types, daemon.queues)
        )
        loops.append(Loop("scheduler", scheduler.tick, emit, bell=bells.scheduler))
    return Parts(
        daemon=daemon,
        database=database,
        in_flight=in_flight,
        attempts=attempts,
        executors=executors,
        producer=producer,
        scheduler=scheduler,
        completer=completer,
        releaser=releaser,
        notifier=notifier,
        lifeline=lifeline,
        heartbeat=heartbeat,
        tallier=tallier,
        spawner=services.spawner,
        loops={loop.name: loop for loop in loops},
        alerting=tuple(alerting),
    )


def slots_of(config: Config, in_flight: InFlight, executors: Executors) -> QueueSlots:
    """Return the slots of those queues that may not fill all."""
    return QueueSlots(most_of(config), in_flight=in_flight, running=executors.running_jobs)


def stopping_s(registry: Registry, job_type: str) -> float:
    """Return how long a handler of this type may take to end once it was told to stop."""
    found = registry.get(job_type)
    return found.stopping_s if found else STOPPING_S


def listen(database: Database, url: str) -> Listener:
    """Open the notifier's connection to an address of the database."""
    return Listener(url, name="ayb-jobs-notifier", timeouts=database.timeouts, surroundings=database.known_at(url))


def open_database(config: Config, url: str) -> Database:
    """Return the connections that a daemon with these settings uses; none is opened yet."""
    return Database(
        url,
        work_connections=config.database.work_connections or config.jobs.worker_concurrency,
        timeouts=timeouts_of(config),
    )
