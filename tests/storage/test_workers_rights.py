"""A role that may call the functions of workers can do nothing else."""

from contextlib import closing

import psycopg
import pytest

from ayb_jobs.storage.database import connect
from ayb_jobs.storage.queue.jobs import get_job
from tests.cli.conftest import Cli
from tests.factories import make_job
from tests.sql_workers import extend, lease, settle
from tests.storage.test_rights import as_role, made_role, migrate_and_grant, names
from tests.storage.test_sql_functions import EXECUTABLE, FUNCTIONS, TRAPS, enqueued, refuses_all_else

WORKERS = ["ayb_jobs_extend", "ayb_jobs_lease", "ayb_jobs_settle"]


def test_the_granted_role_leases_extends_and_settles_and_can_do_nothing_else(each_empty_database_url: str) -> None:
    url = each_empty_database_url
    with made_role(url) as role:
        migrate_and_grant(url, role, "worker")
        with closing(connect(url)) as owner:
            make_job(owner, payload={"a": 1})
            assert names(owner, EXECUTABLE, role=role) == WORKERS
        with as_role(url, role) as worker:
            (job,) = lease(worker)
            assert job.payload == '{"a": 1}'
            assert extend(worker, (job.id, job.lease_id)) == {job.lease_id: "extended"}
            assert settle(worker, job.id, job.lease_id, records=1) == "completed"
            refuses_all_else(worker)
            for refused in (
                "SELECT id FROM public._ayb_jobs",
                "SELECT FROM public._ayb_job_workers",
                "SELECT public._ayb_job_put_under('{}')",
                "SELECT public._ayb_job_worker_beat('w', '{}', '{}', 1)",
                "SELECT ayb_jobs.ayb_jobs_enqueue('test')",
                "SELECT ayb_jobs.ayb_jobs_cancel(gen_random_uuid())",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    worker.execute(refused.encode())


def test_whoever_enqueues_may_lease_nothing(empty_database_url: str) -> None:
    with made_role(empty_database_url) as role:
        migrate_and_grant(empty_database_url, role, "enqueue")
        with as_role(empty_database_url, role) as app:
            enqueued(app)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                lease(app)


def test_nobody_may_call_them_unasked(empty_database_url: str) -> None:
    with made_role(empty_database_url) as role:
        with closing(connect(empty_database_url)) as conn:
            conn.execute(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO {role}".encode())
        migrate_and_grant(empty_database_url, role)
        with closing(connect(empty_database_url)) as conn:
            for other in ("public", role):
                assert names(conn, EXECUTABLE, role=other) == []


def test_nothing_that_others_put_on_the_path_gets_into_the_functions(empty_database_url: str) -> None:
    with made_role(empty_database_url) as role:
        migrate_and_grant(empty_database_url, role, "worker")
        with closing(connect(empty_database_url)) as owner:
            owner.execute(f"CREATE SCHEMA traps AUTHORIZATION {role}".encode())
            job_id = make_job(owner)
        with as_role(empty_database_url, role) as worker:
            worker.execute(TRAPS.encode())
            worker.execute("SET search_path = traps, pg_temp, pg_catalog, public")
            worker.execute("CREATE TEMPORARY TABLE _ayb_jobs (LIKE traps._ayb_jobs)")
            (job,) = lease(worker)
            assert extend(worker, (job.id, job.lease_id)) == {job.lease_id: "extended"}
            assert settle(worker, job.id, job.lease_id, "discarded", error="x") == "failed"
            assert worker.execute("SELECT count(*) FROM traps.caught").fetchone() == (0,)
        with closing(connect(empty_database_url)) as owner:
            assert get_job(owner, job_id).state == "failed"


def test_grant_names_the_functions(empty_database_url: str) -> None:
    with made_role(empty_database_url) as role:
        cli = Cli({"AYB_JOBS_DATABASE_URL": empty_database_url})
        cli.ok("migrate")
        printed = cli.ok("grant", role, "--worker", "--enqueue")
        assert f"GRANT USAGE ON SCHEMA ayb_jobs TO {role};" in printed.splitlines()
        with closing(connect(empty_database_url)) as conn:
            assert names(conn, EXECUTABLE, role=role) == sorted([*FUNCTIONS, *WORKERS])
