"""Answers that many pages ask for and that cost the database something: each is made once for all of them."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from ayb_jobs.errors import DatabaseError, TookTooLong
from ayb_jobs.http.pacing import apart_s

# For how long an answer is as good as a new one, and for longer if it took long to make.
FRESH_S = 2.0

Answer = TypeVar("Answer")


class Shared(Generic[Answer]):
    """One answer, whoever asks; made again once it is no longer fresh. It failing is an answer, too."""

    def __init__(self, make: Callable[[], Answer]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._found: Answer | None = None
        self._failed: Exception | None = None
        self._good_until = float("-inf")

    def ask(self) -> Answer:
        """Return the answer; raises what its making raised."""
        with self._lock:
            if time.monotonic() >= self._good_until:
                self._renew()
            if self._failed is not None:
                raise self._failed.with_traceback(None)
            return self._found  # type: ignore[return-value] # None only if that is the answer

    def renew(self) -> Answer:
        """Return an answer that is made now, which whoever asks later is told as well."""
        self.forget()
        return self.ask()

    def forget(self) -> None:
        """Have the answer made again for whoever asks next, as after a change."""
        with self._lock:
            self._good_until = float("-inf")

    def _renew(self) -> None:
        self._found, self._failed = None, None
        began = time.monotonic()
        try:
            self._found = self._make()
        except Exception as error:  # noqa: BLE001 - raised to everybody who asks
            self._failed = error
        ended = time.monotonic()
        # A database that is away is not spared by waiting, and is asked again as soon as it may be back.
        is_away = isinstance(self._failed, DatabaseError) and not isinstance(self._failed, TookTooLong)
        self._good_until = ended + (FRESH_S if is_away else apart_s(ended - began, least_s=FRESH_S))
