"""Whether a job can be leased is tried as it would be leased."""

from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.unleasable import find_unleasable
from tests.factories import make_job

# A trigger of the application's that lets one daemon have the jobs, for an hour.
FOR_ONE = """
    CREATE FUNCTION for_one() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF new.worker_id <> 'w' OR new.lease_until < now() + interval '59 minutes' THEN RAISE 'not for you'; END IF;
        RETURN new;
    END $$;
    CREATE TRIGGER for_one BEFORE UPDATE ON _ayb_jobs FOR EACH ROW WHEN (new.state = 'running') EXECUTE FUNCTION for_one();
"""


def test_a_trigger_sees_the_daemon_and_the_lease_that_are_meant(conn: Connection) -> None:
    job_id = make_job(conn)
    conn.execute(FOR_ONE)
    assert find_unleasable(conn, [job_id], worker_id="w", lease_s=3600, enough=1) == []
    (refused,) = find_unleasable(conn, [job_id], worker_id="v", lease_s=3600, enough=1)
    assert (refused.job_id, str(refused.error)) == (job_id, "not for you")
    assert conn.execute("SELECT state, attempts FROM _ayb_jobs").fetchone() == ("queued", 0)
