"""What backends that are the database itself have in common if they change something: who gives the command."""

import getpass
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from ayb_jobs.cli.backend.database import DatabaseClock
from ayb_jobs.cli.options import Options
from ayb_jobs.operations.acting import Actor
from ayb_jobs.operations.defaults import Defaults
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.waiting import known_types, served_queues
from ayb_jobs.storage.rights import may_see_daemons


class DatabaseBackend(DatabaseClock):
    """What backends that are the database itself have in common: its clock, and who gives the command."""

    def __init__(self, conn: Connection) -> None:
        super().__init__(conn)
        self._actor = actor()

    @contextmanager
    def _step(self) -> Iterator[Connection]:
        with self._conn.transaction():
            yield self._conn


class EnqueueingBackend(DatabaseBackend):
    """One that makes jobs, with the defaults that the configuration names."""

    def __init__(self, conn: Connection, options: Options) -> None:
        super().__init__(conn)
        self._options = options

    def known_types(self) -> Collection[str] | None:
        """Return the job types that live daemons know; None if no daemon is alive, or this role may not see them."""
        return known_types(self._conn) if may_see_daemons(self._conn) else None

    def served_queues(self) -> Collection[str] | None:
        """Return the queues that live daemons serve; None if no daemon is alive, or this role may not see them."""
        return served_queues(self._conn) if may_see_daemons(self._conn) else None

    def _defaults(self, job_type: str) -> Defaults:
        from ayb_jobs.cli.settings import job_defaults  # slow to import, and mostly not needed

        return job_defaults(self._options, job_type)


def actor() -> Actor:
    """Return who gives the command, as the audit trail names them."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        name = f"user {os.getuid()}"
    return Actor(name=f"command line ({name})")
