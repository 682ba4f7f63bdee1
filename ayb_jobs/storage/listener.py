"""Hearing notifications, on a connection of its own."""

from contextlib import closing

import psycopg

from ayb_jobs.errors import DatabaseError
from ayb_jobs.storage.channel import MAY_NOTIFY
from ayb_jobs.storage.database import Timeouts, connect_for_ourselves, shares_sessions
from ayb_jobs.storage.hearing import Heard
from ayb_jobs.storage.own import Surroundings

ASK_FOR_ROOM = f"SELECT {MAY_NOTIFY}"


class Listener:
    """A connection of its own that hears notifications. Raises `DatabaseError` if notifications cannot arrive."""

    def __init__(
        self, url: str, *, name: str, timeouts: Timeouts | None = None, surroundings: Surroundings | None = None
    ) -> None:
        self._conn = connect_for_ourselves(url, name=name, timeouts=timeouts, surroundings=surroundings)
        self._heard = Heard(self._conn)
        if shares_sessions(self._conn):
            self._conn.close()
            raise NotificationsBlocked
        try:
            self._conn.execute("LISTEN ayb_jobs")
        except psycopg.Error:
            self._conn.close()
            raise

    def wait(self, timeout_s: float, interrupt: int | None = None) -> frozenset[str]:
        """Wait for notifications; return what those that came say: nothing for jobs, `schedule` for a changed schedule.

        `interrupt` is a descriptor that ends the wait once there is something to read from it.
        Raises psycopg's errors if the connection broke.
        """
        return frozenset(notify.payload for notify in self._heard.wait(timeout_s, interrupt))

    def probe(self) -> bool:
        """Ask the server itself, since middleboxes answer keepalives, whether its queue has room for notifications."""
        row = self._conn.execute(ASK_FOR_ROOM).fetchone()
        return row is None or bool(row[0])

    def close(self) -> None:
        """Close the connection."""
        self._conn.close()


class NotificationsBlocked(DatabaseError):
    """A pooler stands between, through which notifications do not arrive; polling alone finds jobs."""


NOTIFY = "SELECT pg_notify('ayb_jobs', '')"


def notifications_arrive(url: str, *, within_s: float = 3.0) -> bool:
    """Send a notification as an enqueuer does, and tell whether it arrives in time; daemons look for jobs once more.

    False as well if a pooler stands between. Raises `DatabaseError` if the database cannot be reached.
    """
    try:
        listener = Listener(url, name="ayb-jobs-doctor")
    except NotificationsBlocked:
        return False
    with closing(listener), closing(connect_for_ourselves(url, name="ayb-jobs-doctor")) as sender:
        sender.execute(NOTIFY)
        return bool(listener.wait(within_s))
