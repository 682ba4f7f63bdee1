"""The jobs of a torture run: what their handlers do, and how they are mixed."""

import asyncio
import random
import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import psycopg

from ayb_jobs.client.enqueueing import enqueue
from ayb_jobs.handlers.async_context import AsyncJobContext
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.lab.checker import JobLimit
from ayb_jobs.lab.torture import elsewhere
from ayb_jobs.lab.torture.effects import note, noted
from ayb_jobs.lab.torture.isolated import ISOLATED
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.model.results import Snooze
from ayb_jobs.model.unique import OnConflict, Scope, Unique
from ayb_jobs.storage.database import is_refused

registry = Registry()

TICK = "torture_tick"
TRANSACTION = "torture_transaction"
FEW = "torture_few"
RATED = "torture_rated"
KEYED = "torture_keyed"
KEY_RATED = "torture_key_rated"
# Jobs of this type are in a queue of this name. Now the one is paused, now the other.
PAUSED = "torture_paused"
UNIQUE = "torture_unique"
# So many of these are enqueued together, since few that come one by one meet no limit.
VOLLEYS, VOLLEY = frozenset({FEW, RATED, KEYED, KEY_RATED}), 10
# The keys of limits: the one limit takes them from the payload, the other from what the enqueuer gives.
TENANTS = ("a", "b", "c")
# What `LIMITS` of `tides.py` says.
JOB_LIMITS = (
    JobLimit(FEW, frozenset({FEW}), max_running=2),
    JobLimit(RATED, frozenset({RATED}), interval_s=1 / 20, burst=2),
    JobLimit(KEYED, frozenset({KEYED}), key_max_running=1),
    JobLimit(KEY_RATED, frozenset({KEY_RATED}), key_interval_s=1 / 10, key_burst=2),
)
LEAVE_EFFECT = "INSERT INTO _ayb_job_torture_effects (job_id) VALUES (%s)"


class MeantToFail(Exception):
    """This attempt was meant to fail."""


@registry.handler(TICK)
def tick(context: JobContext) -> None:
    """Do nothing, once a second."""
    with noted(context):
        pass


@registry.handler(FEW)
@registry.handler(RATED)
@registry.handler(KEYED)
@registry.handler(KEY_RATED)
@registry.handler(PAUSED)
@registry.handler(UNIQUE)
@registry.handler("torture_work")
def work(context: JobContext) -> None:
    """Take as long as the payload says, and end early when asked to."""
    with noted(context):
        if seconds := context.payload.get("s"):
            context.stopping.wait(seconds)
            context.check()
        if context.payload.get("grows") and context.job.batch_id is not None:
            with context.connection() as conn:
                enqueue(conn, grown(context.job))


def grown(member: LeasedJob) -> NewJob:
    """Return the job that a member of a batch adds to it."""
    return NewJob(type="torture_work", idempotency_key=f"grown-{member.id}", batch_id=member.batch_id)


@registry.handler("torture_async")
async def work_async(context: AsyncJobContext) -> None:
    """Do the same on the event loop."""
    with noted(context):
        await asyncio.sleep(context.payload.get("s", 0))


@registry.handler("torture_deaf")
def deaf(context: JobContext) -> None:
    """Take as long as the payload says, and not listen."""
    with noted(context):
        threading.Event().wait(context.payload["s"])  # libfaketime knows no time.sleep


@registry.handler("torture_progress")
def progress(context: JobContext) -> None:
    """Tell of progress, step by step."""
    with noted(context):
        for step in range(3):
            context.progress(records_processed=step)
            context.stopping.wait(0.05)
            context.check()


@registry.handler(TRANSACTION)
def transaction(context: JobContext) -> None:
    """Leave a row in the table of effects, and complete in the same commit; one whose answer is lost may have acted."""
    note(context, "start")
    committing = False
    try:
        with context.transaction() as conn:
            conn.execute(LEAVE_EFFECT, (context.job.id,))
            note(context, "ok")
            committing = True
    except BaseException as error:
        in_doubt = committing and isinstance(error, psycopg.OperationalError) and not is_refused(error)
        if not in_doubt:
            note(context, "error")
        raise


@registry.handler("torture_flaky")
def flaky(context: JobContext) -> None:
    """Fail at the first attempt."""
    with noted(context):
        if context.attempt == 1:
            raise MeantToFail


@registry.handler("torture_snooze")
def snooze(context: JobContext) -> Snooze | None:
    """Ask to run later, once."""
    with noted(context):
        return Snooze(0.5) if context.attempt == 1 else None


# The share of jobs that wait for others.
DEPENDENT = 0.1
MANY = 50
TWICE = 2


def new_job(
    chance: random.Random,
    key: str,
    *,
    lease_s: float,
    earlier: Sequence[str] = (),
    job_type: str | None = None,
    isolated: bool = False,
) -> NewJob:
    """Return the next job of the mix: most are quick, a few outlast their first lease, a few may fail by crashes.

    A few wait for up to three of the `earlier` ones. With a `job_type` it is one of that type. Some have a process of
    their own if there are to be `isolated` ones.
    """
    shares = [share if job_type in (None, kind) else 0 for (kind, *_), share in zip(_MIX, _SHARES, strict=True)]
    if not isolated:
        shares[-1] = 0
    kind, max_attempts, seconds, delay_s = chance.choices(_MIX, shares)[0]
    takes_s = chance.uniform(*seconds) * (lease_s if kind is _LONG else 1)
    tenant = chance.choice(TENANTS)
    further = {"key": key} if kind in elsewhere.KEYED else {"tenant": tenant} if kind == KEYED else {}
    return NewJob(
        type="torture_work" if kind is _LONG else kind,
        payload=({"s": takes_s} if takes_s else {}) | further,
        max_attempts=max_attempts,
        queue=PAUSED if kind == PAUSED else "default",
        priority=chance.choice((1, 2, 2, 3)),
        delay=timedelta(seconds=chance.uniform(0.2, delay_s)) if delay_s else None,
        idempotency_key=key,
        limit_key=tenant if kind == KEY_RATED else None,
        **_parents(chance, earlier),
    )


def _parents(chance: random.Random, earlier: Sequence[str]) -> dict[str, Any]:
    if not earlier or chance.random() > DEPENDENT:
        return {}
    return {
        "depends_on": chance.sample(earlier, min(len(earlier), chance.randint(1, 3))),
        "on_parent_failure": chance.choice(("cancel", "run", "hold")),
    }


# The share of calls that enqueue a job with a unique key, of so many keys for each scope.
CLAIMING = 0.15
KEYS = 2
CONFLICTS: Mapping[Scope, Sequence[OnConflict]] = {
    "unfinished": ("return", "reject"),
    "waiting": ("return", "reject", "replace", "debounce"),
}


def unique_job(chance: random.Random) -> NewJob:
    """Return a job with a unique key, which its payload names for the checker; others hold the key, often."""
    scope = chance.choice(list(CONFLICTS))
    key = f"{scope} {chance.randrange(KEYS)}"
    on_conflict = chance.choice(CONFLICTS[scope])
    return NewJob(
        type=UNIQUE,
        payload={"s": chance.uniform(0.0, 0.3), "unique": key},
        max_attempts=MANY,
        delay=timedelta(seconds=0.2) if on_conflict == "debounce" else None,
        unique=Unique(key=key, scope=scope, on_conflict=on_conflict),
    )


def paused_jobs() -> list[NewJob]:
    """Return jobs of what is about to be paused: leased before others, and quick, so that many are leased ahead."""
    job = NewJob(type=PAUSED, queue=PAUSED, payload={"s": 0.02}, max_attempts=MANY, priority=1)
    return [job] * (3 * VOLLEY)


def jobs_of_key(tenant: str) -> list[NewJob]:
    """Return jobs of a key that is about to be paused."""
    job = NewJob(type=KEYED, payload={"s": 0.02, "tenant": tenant}, max_attempts=MANY, priority=1)
    return [job] * VOLLEY


# The share of calls that make a batch, with so many jobs at most, and the share of its jobs that add another to it.
BATCHED = 0.02
MOST_MEMBERS = 6
GROWS = 0.2
CALLBACK = NewJob(type="torture_work")


def as_member(chance: random.Random, job: NewJob) -> NewJob:
    """Return a job as a batch has it: some add another."""
    if job.type != "torture_work" or chance.random() > GROWS:
        return job
    return job._replace(payload={**job.payload, "grows": True})


_LONG = "longer than a lease"
_QUICK = (0.0, 0.0)
# Type, attempts, the bounds of how long it takes (of leases, where it is to outlast one), and of its delay, in seconds.
_MIX: tuple[tuple[str, int, tuple[float, float], float], ...] = (
    ("torture_work", MANY, _QUICK, 0.0),
    ("torture_work", MANY, (0.01, 0.3), 0.0),
    ("torture_deaf", MANY, (0.1, 0.5), 0.0),
    ("torture_work", TWICE, (0.2, 0.8), 0.0),
    ("torture_progress", MANY, _QUICK, 0.0),
    (TRANSACTION, MANY, _QUICK, 0.0),
    ("torture_work", MANY, _QUICK, 2.0),
    ("torture_snooze", MANY, _QUICK, 0.0),
    ("torture_flaky", MANY, _QUICK, 0.0),
    (_LONG, MANY, (1.4, 1.4), 0.0),
    (FEW, MANY, (0.05, 0.2), 0.0),
    (RATED, MANY, _QUICK, 0.0),
    (KEYED, MANY, (0.02, 0.1), 0.0),
    (KEY_RATED, MANY, _QUICK, 0.0),
    ("torture_async", MANY, (0.0, 0.3), 0.0),
    (elsewhere.COMMAND, MANY, _QUICK, 0.0),
    (elsewhere.REQUEST, MANY, _QUICK, 0.0),
    (elsewhere.STATEMENT, MANY, _QUICK, 0.0),
    (elsewhere.CLEANUP, MANY, _QUICK, 0.0),
    (PAUSED, MANY, (0.0, 0.1), 0.0),
    (ISOLATED, MANY, (0.0, 0.2), 0.0),
)
_WANTED = (46, 23, 4, 4, 3, 3, 3, 1.5, 1.5, 0.5, 0.7, 0.7, 0.7, 0.7, 2, 1, 2, 1, 1, 1, 3)
_SHARES = tuple(share if kind not in elsewhere.MISSING else 0 for (kind, *_), share in zip(_MIX, _WANTED, strict=True))
