from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.database import Database
from tests.factories import make_job, make_schedule
import pytest

@pytest.mark.parametrize("state", ["queued", "running", "completed", "failed", "canceled"])
def test_the_fixture_database_is_migrated(db:Database, conn: Connection,state:str) -> None:
    make_job(conn, state, payload={"a": "b'"}, schedule_id=make_schedule(conn))
    with db.connection() as c:
        assert c.execute("SELECT count(*) FROM _ayb_jobs").fetchone() == (1,)
