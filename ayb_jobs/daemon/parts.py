"""The bells of a daemon, and the parts of it that are started and stopped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ayb_jobs.daemon.executing import Executors
from ayb_jobs.frozen import frozen
from ayb_jobs.handlers.commands.spawner import Spawner
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.runtime.bell import Bell
from ayb_jobs.runtime.chores.scheduler import Scheduler
from ayb_jobs.runtime.chores.tallier import Tallier
from ayb_jobs.runtime.fleet.heartbeat import Heartbeat
from ayb_jobs.runtime.fleet.lifeline import LifelineKeeper
from ayb_jobs.runtime.jobs.attempts import Attempts
from ayb_jobs.runtime.jobs.completer import Completer
from ayb_jobs.runtime.jobs.in_flight import InFlight
from ayb_jobs.runtime.jobs.producer import Producer
from ayb_jobs.runtime.jobs.releaser import Releaser
from ayb_jobs.runtime.loop import Loop
from ayb_jobs.runtime.notifier import Notifier
from ayb_jobs.storage.connections import Database


@dataclass(frozen=True, slots=True)
class Bells:
    """The bells of the loops that parts ring."""

    producer: Bell = field(default_factory=Bell)
    completer: Bell = field(default_factory=Bell)
    lease_keeper: Bell = field(default_factory=Bell)
    watchdog: Bell = field(default_factory=Bell)
    heartbeat: Bell = field(default_factory=Bell)
    lifeline: Bell = field(default_factory=Bell)
    resolver: Bell = field(default_factory=Bell)
    batch_resolver: Bell = field(default_factory=Bell)
    pauses: Bell = field(default_factory=Bell)
    limits: Bell = field(default_factory=Bell)
    scheduler: Bell = field(default_factory=Bell)
    loop_watch: Bell = field(default_factory=Bell)


@frozen
class Parts:
    """What a daemon starts and stops. `alerting` names the loops that a stop does not wait for."""

    daemon: DaemonRecord
    database: Database
    in_flight: InFlight
    attempts: Attempts
    executors: Executors
    producer: Producer
    scheduler: Scheduler | None
    completer: Completer
    releaser: Releaser
    notifier: Notifier
    lifeline: LifelineKeeper
    heartbeat: Heartbeat
    tallier: Tallier
    spawner: Spawner
    loops: Mapping[str, Loop]
    alerting: Sequence[str]
