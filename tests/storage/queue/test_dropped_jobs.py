"""Jobs that a trigger of the application's drops."""

import pytest

from ayb_jobs.client.enqueueing import enqueue, enqueue_many
from ayb_jobs.errors import Conflict
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.schedules.schedules import trigger_schedule
from tests.factories import make_schedule

DROP_UNWANTED = """
    CREATE FUNCTION drop_unwanted() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN IF new.type = 'unwanted' THEN RETURN NULL; END IF; RETURN new; END $$;
    CREATE TRIGGER drop_unwanted BEFORE INSERT ON _ayb_jobs FOR EACH ROW EXECUTE FUNCTION drop_unwanted();
"""


@pytest.fixture(autouse=True)
def _trigger(conn: Connection) -> None:
    conn.execute(DROP_UNWANTED)


def test_a_job_that_a_trigger_drops_is_told_as_such(conn: Connection) -> None:
    with pytest.raises(Conflict, match=r"^the job was not made: a trigger or a rule on _ayb_jobs drops it$"):
        enqueue(conn, NewJob(type="unwanted"))
    with pytest.raises(Conflict, match=r"key 'k' is taken by .*, or a trigger on _ayb_jobs drops it"):
        enqueue(conn, NewJob(type="unwanted", idempotency_key="k"))


def test_a_schedules_job_that_a_trigger_drops_is_told_as_such(conn: Connection) -> None:
    schedule_id = make_schedule(conn, job_type="unwanted")
    with pytest.raises(Conflict, match=r"^the job was not made: a trigger or a rule on _ayb_jobs drops it$"):
        trigger_schedule(conn, schedule_id)


def test_jobs_that_a_trigger_drops_are_not_counted(conn: Connection) -> None:
    jobs = [NewJob(type=name, idempotency_key=key) for name in ("unwanted", "wanted") for key in (None, name)]
    assert enqueue_many(conn, jobs) == 2
    assert conn.execute("SELECT count(*) FROM _ayb_jobs").fetchone() == (2,)
