"""Runs handlers in the thread of the slot that asks."""

import os
import sys
import traceback
from contextlib import suppress
from typing import NoReturn

from ayb_jobs.forks import PROCESS
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.job_type import JobType

MOST_CODE = 0xFF


class Threads:
    """Runs a handler to its end. Where a handler has forked, its child ends there: the job is its parent's."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    def run(self, job_type: JobType, context: JobContext) -> object:
        """Run the handler, and return what it returns."""
        try:
            _ = context.payload  # as `readable` does, without a call for each job
            return job_type.run(context)
        finally:
            if PROCESS.forked and os.getpid() != self._pid:
                end_process(sys.exc_info()[1])


def end_process(error: BaseException | None) -> NoReturn:
    """End the process as a script ends that raised `error`, or that came to its end."""
    code = exit_code(error)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)


def exit_code(error: BaseException | None) -> int:
    """Return the exit code of a script that ended with this exception; say on stderr what Python would say."""
    match error:
        case None:
            return 0
        case SystemExit(code=None):
            return 0
        case SystemExit(code=int(code)):
            return code & MOST_CODE
        case SystemExit(code=words):
            print(words, file=sys.stderr)  # noqa: T201 - as Python does
            return 1
        case _:
            traceback.print_exception(error)
            return 1
