"""Jobs that a trigger of the application's keeps as they are, whoever retries or cancels them."""

from collections.abc import Callable

import pytest

from ayb_jobs.client.canceling import request_cancel
from ayb_jobs.errors import Conflict
from ayb_jobs.model.filters import EVERY
from ayb_jobs.model.job import JobState
from ayb_jobs.operations import bulk, jobs
from ayb_jobs.operations.acting import Actor
from ayb_jobs.operations.bulk import BulkAction
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.jobs import get_job
from tests.factories import make_job

KEEP = """
    CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN IF old.type = 'kept' THEN RETURN {}; END IF; RETURN new; END $$;
    CREATE TRIGGER keep BEFORE UPDATE ON _ayb_jobs FOR EACH ROW EXECUTE FUNCTION keep();
"""
# What is done to a job in which state, and to many.
BY_HAND: list[tuple[JobState, Callable[[Connection, str, Actor], object]]] = [
    (JobState.FAILED, lambda conn, id_, actor: jobs.retry(conn, id_, actor=actor)),
    (JobState.QUEUED, lambda conn, id_, actor: jobs.cancel(conn, id_, actor=actor)),
    (JobState.QUEUED, lambda conn, id_, actor: jobs.cancel(conn, id_, actor=actor, running=True)),
    (JobState.RUNNING, lambda conn, id_, actor: jobs.cancel(conn, id_, actor=actor, running=True)),
    (JobState.QUEUED, lambda conn, id_, _: request_cancel(conn, id_)),
    (JobState.RUNNING, lambda conn, id_, _: request_cancel(conn, id_)),
]
MANY = {
    BulkAction.RETRY: JobState.FAILED,
    BulkAction.CANCEL: JobState.QUEUED,
    BulkAction.CANCEL_RUNNING: JobState.RUNNING,
}


@pytest.fixture(params=["NULL", "old"])
def told(conn: Connection, request: pytest.FixtureRequest) -> list[object]:
    """What is told of deeds, in a database with such a trigger."""
    conn.execute(KEEP.format(request.param).encode())
    return []


@pytest.fixture
def actor(told: list[object]) -> Actor:
    return Actor(name="test", tell=told.append)


@pytest.mark.parametrize(("state", "change"), BY_HAND)
def test_a_job_that_a_trigger_keeps_is_told_as_such(
    conn: Connection, actor: Actor, told: list[object], state: JobState, change: Callable[..., object]
) -> None:
    kept, other = make_job(conn, state, type="kept"), make_job(conn, state)
    before = get_job(conn, kept)
    with pytest.raises(Conflict, match=f"^job {kept} stays as it was: a trigger or a rule on its table keeps it so$"):
        change(conn, kept, actor)
    assert get_job(conn, kept) == before
    assert told == []
    assert conn.execute("SELECT count(*) FROM _ayb_job_audit").fetchone() == (0,)
    change(conn, other, actor)


@pytest.mark.parametrize("action", BulkAction)
def test_of_many_jobs_those_that_a_trigger_keeps_are_not_counted(
    conn: Connection, db: Database, actor: Actor, action: BulkAction
) -> None:
    kept = make_job(conn, MANY[action], type="kept")
    changed = make_job(conn, MANY[action])
    assert bulk.change(db.transaction, action, EVERY, actor=actor) == bulk.Changed(count=1)
    assert conn.execute("SELECT before -> 'ids' FROM _ayb_job_audit").fetchall() == [([changed],)]
    assert bulk.change(db.transaction, action, EVERY, actor=actor) == bulk.Changed(count=0)
    assert get_job(conn, kept).state == MANY[action]
