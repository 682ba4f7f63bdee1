"""Reading how things stand, again and again, on a thread of its own."""

import threading
import time
from collections.abc import Callable

from ayb_jobs.checks.glance import Glance, glance
from ayb_jobs.config import Retention
from ayb_jobs.errors import AybJobsError
from ayb_jobs.model.words import span_words
from ayb_jobs.storage.database import Connection, Timeouts, connect_to_primary
from ayb_jobs.storage.faults import worded_faults

TIMEOUTS = Timeouts(connect_s=3.0, statement_s=10.0)
PATIENCE_S = 0.2
LATE_S = 2.0  # an answer that is later is missed aloud


class Reader:
    """Reads how things stand, on one connection, which is opened anew after a failure."""

    def __init__(self, url: str, retention: Retention) -> None:
        self._url, self._retention = url, retention
        self._conn: Connection | None = None

    def read(self) -> Glance:
        """Read; raises `DatabaseError` if the database cannot be asked."""
        if self._conn is None:
            self._conn = connect_to_primary(self._url, name="ayb-jobs-top", timeouts=TIMEOUTS)
        try:
            with worded_faults():
                return glance(self._conn, self._retention)
        except AybJobsError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection, if there is one."""
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.close()


class Looking:
    """A thread that reads again and again, so that keys are heard while the database does not answer.

    `seen` is the last answer. `check` raises what ended the thread, if it ended.
    """

    def __init__(self, reader: Reader, seen: Glance, every_s: float, told: Callable[[], None]) -> None:
        self.seen, self._fault, self._heard = seen, "", time.monotonic()
        self._reader, self._every_s, self._told = reader, every_s, told
        self._ended, self._goes_on, self._soon = threading.Event(), threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._goes_on.set()
        self._thread = threading.Thread(target=self._run, name="top", daemon=True)
        self._thread.start()

    @property
    def held(self) -> bool:
        """Whether nothing is read for now."""
        return not self._goes_on.is_set()

    @property
    def fault(self) -> str:
        """Why there is no newer answer; empty if none is missing."""
        silent_s = time.monotonic() - self._heard - self._every_s
        if self._fault or self.held or silent_s < LATE_S:
            return self._fault
        return f"the database has not answered for {span_words(silent_s)}"

    def hold(self, *, held: bool) -> None:
        """Stop reading, or go on with it."""
        if held:
            self._goes_on.clear()
        else:
            self._heard = time.monotonic()
            self._goes_on.set()

    def hurry(self) -> None:
        """Read at once: something was changed."""
        self._soon.set()

    def close(self) -> None:
        """Read no more. A database that does not answer is not waited for."""
        self._ended.set()
        self._soon.set()
        self._goes_on.set()
        self._thread.join(PATIENCE_S)

    def check(self) -> None:
        """Raise the error that ended the thread, if one did."""
        if self._error:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                self._soon.wait(self._every_s)
                self._soon.clear()
                self._goes_on.wait()
                if self._ended.is_set():
                    break
                self._look()
                self._told()
            self._reader.close()
        except BaseException as error:
            self._error = error
            self._told()
            raise SystemExit from error  # which ends a thread without a word; `check` has it

    def _look(self) -> None:
        try:
            self.seen, self._fault = self._reader.read(), ""
        except AybJobsError as error:
            self._fault = str(error)
        self._heard = time.monotonic()
