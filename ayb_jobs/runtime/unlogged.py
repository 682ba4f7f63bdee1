"""Attempts that the database dropped from the execution log in silence, as a trigger does that returns NULL."""

import threading
import time
from collections.abc import Sequence

from ayb_jobs.events import Emit, ExecutionsDropped

TELL_S = 60.0


class Unlogged:
    """Tells of dropped executions: of the first at once, then once a minute of all since. Any thread may call it."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._lock = threading.Lock()
        self._count = 0
        self._tell_at = 0.0

    def put(self, job_ids: Sequence[str]) -> None:
        """Count one dropped execution for each of these jobs, and tell it if it is time."""
        if not job_ids:
            return
        with self._lock:
            self._count += len(job_ids)
            now = time.monotonic()
            if now < self._tell_at:
                return
            self._tell_at = now + TELL_S
            count, self._count = self._count, 0
        self._emit(ExecutionsDropped(count=count, job_id=job_ids[0]))
