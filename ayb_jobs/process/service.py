"""The daemon as a process: its log, its database, its signals, its HTTP, and what it tells systemd.

`run_service` reads from top to bottom: find the database, bring its schema up to date, start, wait for a signal, stop.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ayb_jobs.checks.loops import LoopAge
from ayb_jobs.config import Config
from ayb_jobs.daemon.daemon import Daemon, DisabledDaemon, new_worker_id
from ayb_jobs.embedded import DEFAULT_HOME, EmbeddedPostgres
from ayb_jobs.errors import AybJobsError, ConfigError, InvalidInput, MigrationError
from ayb_jobs.events import (
    ApiFailed,
    ApiStarted,
    EmbeddedDatabaseUsed,
    Events,
    SchemaMigrated,
    SettingsNoted,
    TracingUnavailable,
)
from ayb_jobs.handlers.packs import build_registry
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.handlers.shipped import shipped_schedules
from ayb_jobs.handlers.tracing import traced
from ayb_jobs.http.edge.server import ApiServer, app_factory
from ayb_jobs.http.services import Services
from ayb_jobs.logs import configure_logging
from ayb_jobs.metrics import Metrics
from ayb_jobs.process import sd_notify
from ayb_jobs.process.signals import Signals, watched_signals
from ayb_jobs.runtime.garbage import collect_rarely
from ayb_jobs.runtime.loop import Loop
from ayb_jobs.storage.database import Database, connect
from ayb_jobs.storage.migrate import migrate
from ayb_jobs.storage.queue.executions import catch_up_execution_ids
from ayb_jobs.storage.schedules.definitions import upsert_defaults

EXIT_OK = 0
EXIT_HANDLERS_LEFT = 1
EXIT_FORCED = 128 + signal.SIGTERM

# What stopping may take beyond the time that handlers get: last statements, and an unreachable database.
STOP_S = 60.0
FOR_EVER_S = 3600.0 * 24 * 365
# A loop whose turn takes longer than this counts as stuck: no statement of ours may take half as long.
STUCK_S = 120.0
# Of its own, so that handlers that hold all theirs never keep an operator out, nor many dashboards a handler.
HTTP_CONNECTIONS = 4
# HTTP lets the first job come first for at most so long.
FIRST_JOB_S = 0.5
# One that fails in every turn for so long is not healthy. A server that restarts takes less.
FAILING_S = 60.0
# Pruning a large backlog is one long turn of many short batches.
SLOW_LOOPS = {"pruner": 6 * 3600.0, "legacy pruning": 6 * 3600.0}


def run_service(config: Config) -> int:
    """Run a daemon in the foreground until it is told to stop; return the process's exit code.

    0 after a clean stop, 1 where handlers were still running after the shutdown timeout, 143 where a second signal cut
    the stop short. Raises `ConfigError`, `MigrationError` and `DatabaseError` where it cannot start.
    """
    tracing = traced(build_registry(config), os.environ)
    registry = tracing.registry
    worker_id = new_worker_id()
    logs = configure_logging(config.log, worker=worker_id, secrets=config.secrets())
    with closing(logs):
        events = Events()
        events.subscribe(logs.subscriber)
        metrics = Metrics()
        events.subscribe(metrics)
        if tracing.problem:
            events.emit(TracingUnavailable(reason=tracing.problem))
        for note in config.notes:
            events.emit(SettingsNoted(note=note))
        with watched_signals() as signals, database_url(config, events) as url:
            daemon = (
                Daemon(
                    config=config, url=url, registry=registry, events=events, logger=logs.logger, worker_id=worker_id
                )
                if config.jobs.enabled
                else DisabledDaemon(config=config, url=url, events=events)
            )
            signals.on_second = daemon.hurry
            started = threading.Event()
            with served(daemon, config=config, registry=registry, events=events, metrics=metrics, started=started):
                if not config.jobs.enabled or prepared(config, url, registry, events, signals):
                    collect_rarely()
                    daemon.start()
                    started.set()
                    tell_systemd_until_stopped(daemon, signals)
                sd_notify.stopping(config.jobs.shutdown_timeout_s + STOP_S)
                left = daemon.stop(signals.reason)
        tracing.flush()
    if signals.count > 1:
        return EXIT_FORCED
    return EXIT_HANDLERS_LEFT if left else EXIT_OK


@contextmanager
def database_url(config: Config, events: Events) -> Iterator[str]:
    """Give the configured database's address, or that of the embedded one, which runs meanwhile."""
    if config.database.url:
        yield config.database.url
        return
    home = Path(config.database.data_dir) if config.database.data_dir else DEFAULT_HOME
    with EmbeddedPostgres.kept(home) as server:
        events.emit(EmbeddedDatabaseUsed(home=str(server.home)))
        yield server.url()


def prepared(config: Config, url: str, registry: Registry, events: Events, signals: Signals) -> bool:
    """Bring the schema and the shipped schedules up to date; False where a signal came first.

    A database that is down is waited for. Raises `MigrationError` where the schema is not one to work on.
    """
    done = threading.Event()
    fatal: list[AybJobsError] = []

    def prepare() -> float:
        try:
            with closing(connect(config.database.direct_url or url, name="ayb-jobs-start", writable=True)) as conn:
                applied = migrate(conn)
                if applied.migrations:
                    names = [migration.name for migration in applied.migrations]
                    events.emit(SchemaMigrated(migrations=names, notices=applied.notices))
                catch_up_execution_ids(conn)
                upsert_defaults(
                    conn,
                    shipped_schedules(config, registry),
                    default_max_attempts=config.jobs.max_retries_default,
                )
        except (MigrationError, ConfigError, InvalidInput) as error:
            fatal.append(error)
        done.set()
        return FOR_EVER_S

    start_up = Loop("start-up", prepare, events.emit)
    sd_notify.status("waiting for the database")
    start_up.start()
    while not done.wait(0.01) and not signals.stopping:
        pass
    start_up.stop()
    if fatal:
        raise fatal[0]
    return done.is_set()


@contextmanager
def served(
    daemon: Daemon | DisabledDaemon,
    *,
    config: Config,
    registry: Registry,
    events: Events,
    metrics: Metrics,
    started: threading.Event,
) -> Iterator[None]:
    """Serve HTTP meanwhile, where `[api]` says so; listening at once, answering once the daemon has `started` or soon."""
    if not config.api.enabled:
        yield
        return
    stopping = threading.Event()
    timeouts = daemon.database.timeouts
    database = Database(daemon.database.url, name="ayb-jobs-http", work_connections=HTTP_CONNECTIONS, timeouts=timeouts)
    services = Services(
        database=database,
        config=config,
        registry=registry,
        events=events,
        metrics=metrics,
        loops=lambda: loop_ages(daemon.loops()),
        slots=daemon.slots,
        draining=daemon.draining.is_set,
        stopping=stopping,
    )
    server = ApiServer(
        after(started, app_factory(services)),
        config.api.host,
        config.api.port,
        stopping=stopping,
        on_failure=lambda error: events.emit(ApiFailed(error=error)),
    )
    with closing(database):
        server.start()
        events.emit(ApiStarted(url=server.url, authenticated=config.api.wants_token))
        try:
            yield
        finally:
            server.stop()


def after(started: threading.Event, build: Callable[[], Any]) -> Callable[[], Any]:
    """Have the application built once the daemon has started, for which it takes the interpreter away from the first job.

    A daemon that waits for its database starts late; HTTP then tells so.
    """

    def build_later() -> Any:
        started.wait(FIRST_JOB_S)
        return build()

    return build_later


def tell_systemd_until_stopped(daemon: Daemon | DisabledDaemon, signals: Signals) -> None:
    """Report readiness, then feed systemd's watchdog for as long as no loop needs a restart."""
    sd_notify.ready()
    pause_s = sd_notify.watchdog_interval_s() or FOR_EVER_S
    while not signals.wait(min(pause_s, threading.TIMEOUT_MAX)):
        if not any(loop.needs_restart for loop in loop_ages(daemon.loops())):
            sd_notify.watchdog()


def loop_ages(loops: Sequence[Loop]) -> list[LoopAge]:
    """Return for how long each loop has made no progress, and for how long it may."""
    return [
        LoopAge(
            loop.name,
            loop.overdue_s,
            FAILING_S if loop.failing else SLOW_LOOPS.get(loop.name, STUCK_S),
            failing=loop.failing,
            waits_for_database=loop.waits_for_database,
        )
        for loop in loops
    ]
