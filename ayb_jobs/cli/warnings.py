"""Warnings of what is done as asked and will hardly do what is meant."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.backend import BatchesBackend, JobsBackend, SchedulesBackend
from ayb_jobs.errors import InvalidInput, NotFound, RightMissing
from ayb_jobs.model.names import unknown_type, unserved_queue

# So many parents are looked for; who names more has not typed them.
MOST_PARENTS = 20


@contextmanager
def warning_of_unknown_type(backend: JobsBackend | SchedulesBackend | BatchesBackend, job_type: str) -> Iterator[None]:
    """Say on stderr, once the block is done, where daemons are alive and none of them knows a job type.

    They are asked first, so that an error of the question comes while nothing is changed.
    """
    known = backend.known_types()
    yield
    warning = None if known is None else unknown_type(job_type, known)
    if warning:
        warn(warning)


@contextmanager
def warning_of_unserved_queue(backend: JobsBackend | BatchesBackend, queue: str | None) -> Iterator[None]:
    """Say on stderr, once the block is done, if daemons are alive and none of them serves a queue; asks first, too."""
    served = backend.served_queues() if queue else None
    yield
    warning = None if served is None or not queue else unserved_queue(queue, served)
    if warning:
        warn(warning)


@contextmanager
def warning_of_parents_that_are_gone(backend: JobsBackend, parents: Sequence[str]) -> Iterator[None]:
    """Say on stderr, once the block is done, which jobs are not there that a new one depends on; asks first, too."""
    gone = [each for each in parents[:MOST_PARENTS] if not is_there(backend, each)]
    yield
    for each in gone:
        warn(f"there is no job {each}; one that is gone counts as completed, so that nothing waits for it")


def is_there(backend: JobsBackend, job_id: str) -> bool:
    """Tell whether there is such a job; yes if the role may not look. What is no id is refused later."""
    try:
        backend.get_job(job_id)
    except NotFound:
        return False
    except (InvalidInput, RightMissing):
        return True
    return True


def warn(words: str) -> None:
    """Say a warning on stderr."""
    output.say(output.one_line(f"ayb-jobs: warning: {words}"))
