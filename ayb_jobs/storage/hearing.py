"""What a connection hears of notifications, while it waits for them and while it does something else."""

import select
from typing import Any, NamedTuple


class Notification(NamedTuple):
    """What was said on a channel."""

    channel: str
    payload: str


class Heard:
    """The notifications that come to a connection of psycopg from now on, none of them lost.

    `Connection.notifies` cannot be had for this: before psycopg 3.2.4 it loses what came with a statement's answer, and
    before 3.2 it does not return without a notification.
    """

    def __init__(self, conn: Any) -> None:
        self._conn = conn
        self._raw = conn.pgconn
        self._new: list[Notification] = []
        self._hear = self._note  # one object, by which psycopg knows it
        conn.add_notify_handler(self._hear)  # what comes with a statement's answer

    def _note(self, notify: Any) -> None:
        self._new.append(Notification(notify.channel, notify.payload))

    def take(self) -> list[Notification]:
        """Return what has come since the last call, without waiting. Raises psycopg's error if the connection broke."""
        self._raw.consume_input()
        while found := self._raw.notifies():
            texts = (found.relname.decode(errors="replace"), found.extra.decode(errors="replace"))
            self._new.append(Notification(*texts))
        taken = self._new.copy()
        self._new.clear()
        return taken

    def wait(self, timeout_s: float, interrupt: int | None = None) -> list[Notification]:
        """Return what has come; if that is nothing, wait for something, at most so long.

        `interrupt` is a descriptor that ends the wait once there is something to read from it.
        """
        taken = self.take()
        if not taken:
            # psycopg's own wait looks up ten times a second.
            waiting = select.poll()
            waiting.register(self._raw.socket, select.POLLIN)
            if interrupt is not None:
                waiting.register(interrupt, select.POLLIN)
            waiting.poll(timeout_s * 1000)
            taken = self.take()
        return taken

    def stop(self) -> None:
        """Hear no more: the next that hears on this connection gets all."""
        self._conn.remove_notify_handler(self._hear)
