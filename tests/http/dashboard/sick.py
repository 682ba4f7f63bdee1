"""The dashboard on a database in which much is wrong, in a real browser."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.resources import files
from typing import Any

from ayb_jobs import NewJob
from ayb_jobs.client.steps import open_batch
from ayb_jobs.client.sync_drivers import Psycopg, run
from ayb_jobs.config import Api, ApiToken, Config, Dashboard, Jobs
from ayb_jobs.events import Events
from ayb_jobs.http import ApiServer, Services, app_factory
from ayb_jobs.metrics import Metrics
from ayb_jobs.model.batches import NewBatch
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.throwaway import Databases
from tests.http.conftest import ADMIN, READ, registry
from tests.http.dashboard import browsing

PAGES = (
    "/", "/jobs", "/jobs?state=waiting", "/jobs?state=failed&type=sync_tenant", "/jobs?state=failed&since=x", "JOB", "FAILED",
    "/jobs/bulk?action=retry&type=sync_tenant", "JOB/cancel", "/failures", "/schedules", "SCHEDULE", "/schedules/new",
    "/executions?over=day", "/batches", "BATCH", "BATCH/cancel", "/queues", "/queues?limit=mail-per-tenant", "/queues/pause", "/queues/limit", "/queues/limit?name=stripe",
    "/queues/limit/remove?name=stripe", "/daemons", "/daemons/drain?id=api-1:4001:c4ca4238a0b9", "/audit", "/enqueue", "/zone", "/jobs/none",
)  # fmt: skip


class Sick:
    """A server on a database in which much is wrong, and a connection to that."""

    def __init__(self, url: str, conn: Connection) -> None:
        self.url = url
        self.conn = conn
        job, failed = [
            conn.execute(
                "SELECT id::text FROM _ayb_jobs WHERE state = %s ORDER BY length(type) DESC, id LIMIT 1", (state,)
            ).fetchone()
            for state in ("queued", "failed")
        ]
        schedule = conn.execute("SELECT id::text FROM _ayb_job_schedules WHERE name = 'nightly_report'").fetchone()
        assert job
        assert failed
        assert schedule
        self.job, self.failed, self.schedule = job[0], failed[0], schedule[0]
        new = NewBatch(description="mails of the spring, " * 9, on_done=NewJob(type="tell_anna"))
        self.batch = run(open_batch(new), Psycopg(conn).fetch)
        conn.execute("UPDATE _ayb_jobs SET batch_id = %s WHERE type = 'charge_card'", (self.batch,))

    def at(self, path: str) -> str:
        """Return a page's address."""
        path = path.replace("JOB", f"/jobs/{self.job}").replace("FAILED", f"/jobs/{self.failed}")
        path = path.replace("SCHEDULE", f"/schedules/{self.schedule}")
        return self.url + path.replace("BATCH", f"/batches/{self.batch}")


@contextmanager
def serving_the_sick(databases: Databases) -> Iterator[Sick]:
    """Serve such a database."""
    tokens = {"anna": ApiToken(token=READ, scope="read")}
    config = Config(
        jobs=Jobs(enabled=True),
        api=Api(port=0, admin_token=ADMIN, tokens=tokens),
        dashboard=Dashboard(environment="production", environment_color="plum"),
    )
    with databases.migrated() as url, closing(Database(url, work_connections=4)) as db, closing(connect(url)) as conn:
        conn.execute(files("ayb_jobs.lab.demo").joinpath("sick.sql").read_bytes())
        services = Services(database=db, config=config, registry=registry(), events=Events(), metrics=Metrics())
        server = ApiServer(app_factory(services), "127.0.0.1", 0, stopping=services.stopping, on_failure=print)
        server.start()
        try:
            yield Sick(server.url, conn)
        finally:
            server.stop()


@contextmanager
def watched(browser: Any, sick: Sick, token: str = ADMIN, **options: Any) -> Iterator[Any]:
    """Give a logged-in page; whatever it complains of, or asks for elsewhere, fails the test at the end."""
    with browsing.watched(browser, sick.url, **options) as page:
        page.goto(f"{sick.url}/login")
        page.fill("#token", token)
        page.click("text=Log in >> nth=-1")
        page.wait_for_selector("#sentence")
        yield page
