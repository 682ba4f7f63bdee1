"""What comes before a daemon's first lease: its database, and a schema and schedules that are up to date."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ayb_jobs.config import Config
from ayb_jobs.embedded import DEFAULT_HOME, EmbeddedPostgres
from ayb_jobs.errors import AybJobsError, ConfigError, InvalidInput, MigrationError
from ayb_jobs.events import EmbeddedDatabaseUsed, Events, SchemaMigrated, SchemaWaits
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.handlers.shipped import shipped_schedules
from ayb_jobs.process import sd_notify
from ayb_jobs.process.signals import FOR_EVER_S, Signals
from ayb_jobs.runtime.loop import Loop
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, connect_for_ourselves
from ayb_jobs.storage.execution_view import keep_execution_view
from ayb_jobs.storage.fitness import refuse_unfit_kind
from ayb_jobs.storage.fleet.limits_of_file import follow_file
from ayb_jobs.storage.migrate import migrate
from ayb_jobs.storage.queue.executions import catch_up_execution_ids
from ayb_jobs.storage.schedules.definitions import upsert_defaults


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


class StartUp:
    """Brings a database's schema and the shipped schedules up to date, waiting for the database if it is down.

    The daemon's `database` has the connection afterwards, unless the schema has an address of its own.
    """

    def __init__(
        self, config: Config, database: Database, registry: Registry, events: Events, signals: Signals
    ) -> None:
        self._config = config
        self._database = database
        self._url = config.database.direct_url or database.url
        self._registry = registry
        self._events = events
        self._signals = signals
        self._done = threading.Event()
        self._fatal: AybJobsError | None = None

    def run(self) -> bool:
        """Return True once all is up to date, False if a signal came first.

        Raises `MigrationError`, `ConfigError` or `InvalidInput` if this database cannot be worked on.
        """
        loop = Loop("start-up", self._tick, self._events.emit)
        sd_notify.status("waiting for the database")
        loop.start()
        while not self._done.is_set() and not self._signals.stopping:
            self._signals.wait(FOR_EVER_S)
        loop.stop()
        if self._fatal is not None:
            raise self._fatal
        return self._done.is_set()

    def _tick(self) -> float:
        try:
            self._prepare()
        except (MigrationError, ConfigError, InvalidInput) as error:
            self._fatal = error
        self._done.set()
        self._signals.wake()
        return FOR_EVER_S

    def _prepare(self) -> None:
        conn = connect_for_ourselves(self._url, name=self._database.name)
        try:
            prepare(conn, self._config, self._registry, self._events)
        except BaseException:
            conn.close()
            raise
        if self._url == self._database.url:
            self._database.take_over(conn)
        else:
            conn.close()


def prepare(conn: Connection, config: Config, registry: Registry, events: Events) -> None:
    """Bring a database's schema and the shipped schedules up to date.

    Raises `MigrationError`, `ConfigError` or `InvalidInput` if this database cannot be worked on.
    """
    refuse_unfit_kind(conn)
    applied = migrate(conn, on_wait=lambda reason: events.emit(SchemaWaits(reason=reason)))
    if applied.migrations:
        names = [migration.name for migration in applied.migrations]
        events.emit(SchemaMigrated(migrations=names, notices=applied.notices))
    keep_execution_view(conn, wanted="barycenter" in config.handlers.packs)
    catch_up_execution_ids(conn)
    schedules = shipped_schedules(config, registry)
    upsert_defaults(conn, schedules, default_max_attempts=config.jobs.max_retries_default)
    follow_file(conn, [limit.as_limit(name) for name, limit in config.limits.items()], by="configuration")
