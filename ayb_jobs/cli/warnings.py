"""Warnings of what is done as asked and will hardly do what is meant."""

from collections.abc import Iterator
from contextlib import contextmanager

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.backend import JobsBackend, SchedulesBackend
from ayb_jobs.model.waiting import unknown_type


@contextmanager
def warning_of_unknown_type(backend: JobsBackend | SchedulesBackend, job_type: str) -> Iterator[None]:
    """Say on stderr, once the block is done, where daemons are alive and none of them knows a job type.

    They are asked first, so that an error of the question comes while nothing is changed.
    """
    known = backend.known_types()
    yield
    warning = None if known is None else unknown_type(job_type, known)
    if warning:
        output.say(output.one_line(f"ayb-jobs: warning: {warning}"))
