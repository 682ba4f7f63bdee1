"""Hears of new jobs and changed schedules, and wakes who cares. A notification is a hint; polling is the truth."""

import math
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType

from ayb_jobs.events import Emit, NotificationsAvailable, NotificationsUnavailable
from ayb_jobs.runtime.hearing import Hearing
from ayb_jobs.storage.listener import Listener, NotificationsBlocked

# Middleboxes answer keepalives by themselves, so the server is asked for an answer this often.
PROBE_S = 30.0
NO_ROOM = "the server's queue of them is half full, behind a session that listens and stays in a transaction"
FOR_EVER_S = 3600.0 * 24 * 365
# What a notification says that is about more than new jobs.
SCHEDULE_CHANGED = "schedule"
JOBS_CANCELED = "canceled"
PAUSES_CHANGED = "pauses"
JOBS_BLOCKED = "blocked"
BATCH_SEALED = "batch"
LIMITS_CHANGED = "limits"
DRAIN_ASKED = "drain"
# A worker in another language has ended a job for which others wait, or a member of a batch; its id follows.
JOB_ENDED = "ended "


class Notifier:
    """Waits for notifications in its `tick`, on a connection of its own, which `connect` opens.

    After each, `on_any` is called, then `look`, which returns the seconds until it wants to be called again although
    nothing is heard. For notifications that say a word of `on_word`, what stands there is called first; `on_ended` get
    the ids of jobs that ended elsewhere. All else is called once it listens: what was said before was not heard.
    `hearing` says whether it does.
    """

    def __init__(
        self,
        *,
        connect: Callable[[], Listener],
        emit: Emit,
        look: Callable[[], float],
        on_any: Callable[[], None] = lambda: None,
        on_word: Mapping[str, Callable[[], None]] = MappingProxyType({}),
        on_ended: Sequence[Callable[[str], None]] = (),
        hearing: Hearing | None = None,
    ) -> None:
        self._open = connect
        self._emit = emit
        self._look_now = look
        self._on_any = on_any
        self._on_word = on_word
        self._on_ended = on_ended
        self._hearing = hearing or Hearing()
        self._listener: Listener | None = None
        self._last_answer = 0.0
        self._look_again = math.inf
        self._had_room = True
        self._interrupted, self._interrupt = socket.socketpair()

    def tick(self) -> float:
        """Wait once; return 0 to wait again, or a long time where notifications cannot arrive."""
        try:
            listener = self._listener or self._connect()
        except NotificationsBlocked as blocked:
            self._emit(NotificationsUnavailable(reason=str(blocked)))
            return FOR_EVER_S
        try:
            until = min(self._last_answer + PROBE_S, self._look_again)
            heard = listener.wait(max(0.0, until - time.monotonic()), self._interrupted.fileno())
            for word in heard & self._on_word.keys():
                self._on_word[word]()
            for word in heard:
                if word.startswith(JOB_ENDED):
                    for tell in self._on_ended:
                        tell(word.removeprefix(JOB_ENDED))
            if heard or time.monotonic() >= self._look_again:
                self._look()
            if time.monotonic() - self._last_answer >= PROBE_S:
                self._probe(listener)
        except Exception:
            self._disconnect()
            raise
        return 0.0

    def interrupt(self) -> None:
        """End the wait under way and every later one, for a loop that stops."""
        with suppress(OSError):  # closed: nobody waits any more
            self._interrupt.send(b"!")

    def close(self) -> None:
        """Close the connection, once the loop has ended."""
        self._disconnect()
        self._interrupted.close()
        self._interrupt.close()

    def _disconnect(self) -> None:
        self._hearing.now = False
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _probe(self, listener: Listener) -> None:
        has_room = listener.probe()
        if has_room != self._had_room:
            self._emit(NotificationsAvailable() if has_room else NotificationsUnavailable(reason=NO_ROOM))
        self._had_room = has_room
        self._last_answer = time.monotonic()

    def _look(self) -> None:
        self._on_any()
        self._look_again = time.monotonic() + self._look_now()

    def _connect(self) -> Listener:
        listener = self._listener = self._open()
        self._hearing.now = True
        self._last_answer = -math.inf  # to be probed at once
        # Whatever was said while nobody listened was not heard.
        for act in self._on_word.values():
            act()
        self._look()
        return listener
