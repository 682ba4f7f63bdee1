"""What the tour runs, what each job must delete, and how far it is."""

from dataclasses import dataclass
from importlib.resources import files

from ayb_jobs.client.enqueueing import enqueue
from ayb_jobs.model.job import JobState
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import Connection

EXPIRED_PER_TABLE = 9_000
KEPT_PER_TABLE = 1_000

TABLES_OF = {
    "stale_session_cleanup": ("_ayb_sessions",),
    "webhook_delivery_prune": ("_ayb_webhook_deliveries",),
    "expired_oauth_cleanup": ("_ayb_oauth_tokens", "_ayb_oauth_authorization_codes"),
    "expired_auth_cleanup": ("_ayb_magic_links", "_ayb_password_resets"),
    "cleanup_expired_sessions": ("sessions",),
    "cleanup_expired_refresh_tokens": ("refresh_tokens",),
    "cleanup_expired_challenges": ("webauthn_challenges",),
    "cleanup_expired_device_codes": ("device_codes",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoJob:
    """How one job of the tour stands. `records_processed` grows while it runs; `seconds` is its handler's time."""

    job: str
    state: str
    attempts: int
    records_processed: int
    expected: int
    seconds: float | None
    error: str | None = None

    @property
    def ended(self) -> bool:
        """Whether it will not change any more."""
        return self.state in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELED)

    @property
    def succeeded(self) -> bool:
        """Whether it completed and deleted just what it had to."""
        return self.state == JobState.COMPLETED and self.records_processed == self.expected


def make_tables(conn: Connection) -> None:
    """Make both origins' tables, with 10,000 rows each."""
    conn.execute(files(__package__).joinpath("tables.sql").read_bytes())


KEEP_ALIVE = """
    WITH beaten AS (
        UPDATE _ayb_job_workers SET heartbeat_at = now() WHERE id LIKE 'api-1:%' OR id LIKE 'api-2:%' RETURNING id
    )
    UPDATE _ayb_jobs SET lease_until = now() + interval '30 minutes'
    WHERE state = 'running' AND worker_id IN (SELECT id FROM beaten)
"""


def keep_alive(conn: Connection) -> None:
    """Have the two made-up daemons that live go on living, with what they run."""
    conn.execute(KEEP_ALIVE)


SWITCH_OFF = "UPDATE _ayb_job_schedules SET enabled = false"


def switch_off(conn: Connection) -> None:
    """Switch all schedules off: no scheduler runs, and none of them is to be overdue for whoever looks around."""
    conn.execute(SWITCH_OFF)


def enqueue_jobs(conn: Connection) -> list[str]:
    """Enqueue each built-in job once; return their ids."""
    with conn.transaction():
        return [enqueue(conn, NewJob(type=job_type)).id for job_type in TABLES_OF]


JOBS_NOW = """
    SELECT job.type, job.state, job.attempts,
        coalesce(execution.records_processed, (job.progress ->> 'records_processed')::bigint, 0),
        extract(epoch FROM execution.ended_at - execution.started_at)::float8, job.last_error
    FROM _ayb_jobs AS job
    LEFT JOIN _ayb_job_executions AS execution ON execution.id = job.execution_id AND execution.outcome = 'completed'
    WHERE job.id = ANY (%(ids)s::uuid[])
"""


def jobs_now(conn: Connection, ids: list[str]) -> list[DemoJob]:
    """Return how each job stands, in the order of the tour."""
    found = {
        row[0]: DemoJob(
            job=row[0],
            state=row[1],
            attempts=row[2],
            records_processed=row[3],
            expected=EXPIRED_PER_TABLE * len(TABLES_OF[row[0]]),
            seconds=row[4],
            error=row[5],
        )
        for row in conn.execute(JOBS_NOW, {"ids": ids}).fetchall()
    }
    return [found[job_type] for job_type in TABLES_OF if job_type in found]


ROWS_LEFT = """
    SELECT (SELECT count(*) FROM _ayb_sessions) + (SELECT count(*) FROM _ayb_webhook_deliveries)
        + (SELECT count(*) FROM _ayb_oauth_tokens) + (SELECT count(*) FROM _ayb_oauth_authorization_codes)
        + (SELECT count(*) FROM _ayb_magic_links) + (SELECT count(*) FROM _ayb_password_resets)
        + (SELECT count(*) FROM sessions) + (SELECT count(*) FROM refresh_tokens)
        + (SELECT count(*) FROM webauthn_challenges) + (SELECT count(*) FROM device_codes)
"""


def only_valid_rows_left(conn: Connection) -> bool:
    """Tell whether as many rows are left, in all ten tables, as were valid from the start."""
    row = conn.execute(ROWS_LEFT).fetchone()
    return row is not None and row[0] == KEPT_PER_TABLE * sum(map(len, TABLES_OF.values()))
