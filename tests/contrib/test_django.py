"""The app for Django, in real projects on a real database."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from ayb_jobs.config import load_config
from ayb_jobs.contrib.django.project import address_words
from ayb_jobs.model.project import Project
from ayb_jobs.storage.database import Connection
from tests.eventually import eventually
from tests.factories import make_job

MANAGE = """
import os, sys
from django.core.management import execute_from_command_line
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
execute_from_command_line(sys.argv)
"""
SETTINGS = """
import os
SECRET_KEY = "x"
INSTALLED_APPS = ["ayb_jobs.contrib.django", "one", "two"]
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
    "queue": {"ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"]},
}
AYB_JOBS_DATABASE = os.environ.get("ALIAS", "queue")
"""
ONE = """
from asgiref.sync import sync_to_async
from ayb_jobs import Registry
from django.apps import apps
from django.db import connections

apps.check_models_ready()
registry = Registry()


def backend():
    with connections["queue"].cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


@registry.handler("plain")
def plain(ctx):
    before = connections["queue"].connection is not None
    return {"open_before": before, "pid": backend(), "logged": len(connections["queue"].queries_log)}


@registry.handler("isolated", isolation="process")
def isolated(ctx):
    return plain(ctx)


@registry.handler("awaited")
async def awaited(ctx):
    return await sync_to_async(plain)(ctx)
"""


@pytest.fixture
def environ(database_url: str, tmp_path: Path) -> Mapping[str, str]:
    """A project in a folder, and the environment for its commands."""
    (tmp_path / "manage.py").write_text(MANAGE)
    (tmp_path / "settings.py").write_text(SETTINGS)
    for app in ("one", "two"):
        (tmp_path / app).mkdir()
        (tmp_path / app / "__init__.py").touch()
    (tmp_path / "one" / "jobs.py").write_text(ONE)
    (tmp_path / "two" / "jobs.py").write_text("from one.jobs import registry\nnothing = 1\n")
    parts = conninfo_to_dict(database_url)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AYB_", "PG", "DJANGO"))}
    return kept | {
        "PGHOST": str(parts["host"]), "PGPORT": str(parts["port"]), "PGUSER": str(parts["user"]),
        "PGDATABASE": str(parts["dbname"]), "AYB_JOBS_API_ENABLED": "false",
    }  # fmt: skip


def manage(folder: Path, environ: Mapping[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    run = [sys.executable, "manage.py", *arguments]
    return subprocess.run(run, cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_every_kind_of_handler_finds_django_set_up_and_its_connections_fresh(
    environ: Mapping[str, str], conn: Connection, tmp_path: Path
) -> None:
    for job_type in ("plain", "isolated", "awaited"):
        for _ in range(2):
            make_job(conn, type=job_type)
    results = "SELECT type, result FROM _ayb_jobs AS job JOIN _ayb_job_results ON job_id = job.id ORDER BY type, job.id"
    settings = {f"AYB_JOBS_{kind}_CONCURRENCY": "1" for kind in ("WORKER", "PROCESS", "ASYNC")}
    log = tmp_path / "daemon.log"
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            [sys.executable, "manage.py", "ayb_jobs", "run", "--settings", "settings"],
            cwd=tmp_path, env=dict(environ) | settings, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        found = eventually(lambda: made if len(made := conn.execute(results).fetchall()) == 6 else [], within_s=30)
    finally:
        daemon.terminate()
        code = daemon.wait(30)
    assert code == 0, log.read_text()
    assert [job_type for job_type, _ in found] == ["awaited"] * 2 + ["isolated"] * 2 + ["plain"] * 2
    assert not any(result["open_before"] for _, result in found)
    assert len({result["pid"] for _, result in found}) == 6
    eventually(lambda: conn.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid = ANY (%s)",
        ([result["pid"] for _, result in found],)).fetchone() == (0,))  # fmt: skip


def test_settings_go_over_what_the_project_says(environ: Mapping[str, str], tmp_path: Path) -> None:
    (tmp_path / "ayb-jobs.toml").write_text('[jobs]\nenabled = false\n[handlers]\npacks = ["ayb"]\n')
    done = manage(tmp_path, environ, "ayb_jobs", "check-config", "--json")
    told = json.loads(done.stdout)
    assert {"awaited", "isolated", "plain", "stale_session_cleanup"} <= set(told["jobTypes"])
    of = {key: told["settings"][key] for key in ("jobs.enabled", "handlers.packs", "handlers.modules", "database.url")}
    assert [of[key]["origin"] for key in of] == [
        "ayb-jobs.toml",
        "ayb-jobs.toml",
        "project settings",
        "project settings",
    ]
    assert of["database.url"]["value"] == f"dbname='{environ['PGDATABASE']}' client_encoding='UTF8'"


def test_what_is_wrong_is_told_in_one_line(environ: Mapping[str, str], tmp_path: Path) -> None:
    (tmp_path / "two" / "jobs.py").write_text("import one.nothing\n")
    done = manage(tmp_path, environ, "ayb_jobs", "check-config")
    assert done.returncode == 78
    assert done.stderr.startswith("ayb-jobs: handlers.modules cannot be used: ")
    assert "two.jobs cannot be imported: ModuleNotFoundError: No module named 'one.nothing'" in done.stderr
    sqlite = (
        "ayb-jobs keeps its queue in PostgreSQL, and DATABASES['default'] is sqlite; name another in AYB_JOBS_DATABASE"
    )
    nothing = "AYB_JOBS_DATABASE is 'nothing', and DATABASES has no such alias; give one of default, queue"
    for alias, fault in (("default", sqlite), ("nothing", nothing)):
        done = manage(tmp_path, {**environ, "ALIAS": alias}, "ayb_jobs", "jobs", "list")
        assert (done.returncode, done.stderr) == (78, f"ayb-jobs: {fault}\n")
        assert f"(ayb_jobs.E001) {fault}" in manage(tmp_path, {**environ, "ALIAS": alias}, "check").stderr


def test_another_program_may_call_the_command(environ: Mapping[str, str], conn: Connection, tmp_path: Path) -> None:
    job_id = make_job(conn, type="plain")
    call = "import django; django.setup(); from django.core.management import call_command as call;"
    run = [sys.executable, "-c", f"{call} call('ayb_jobs', 'jobs', 'list', '--json')"]
    done = subprocess.run(
        run, cwd=tmp_path, env=dict(environ) | {"DJANGO_SETTINGS_MODULE": "settings"}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["items"][0]["id"] == job_id


def test_migrating_makes_the_queues_tables_in_its_database_alone(
    environ: Mapping[str, str], conn: Connection, tmp_path: Path
) -> None:
    conn.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP SCHEMA IF EXISTS ayb_jobs CASCADE")
    done = manage(tmp_path, environ, "migrate")
    assert done.returncode == 0, done.stderr
    assert conn.execute("SELECT to_regclass('_ayb_jobs')").fetchone() == (None,)
    done = manage(tmp_path, environ, "migrate", "--database", "queue")
    assert "Applying tables of ayb-jobs: 0001_jobs" in done.stdout, done.stderr
    assert conn.execute("SELECT to_regclass('_ayb_jobs')::text").fetchone() == ("_ayb_jobs",)
    assert "Applying" not in manage(tmp_path, environ, "migrate", "--database", "queue").stdout
    conn.execute("INSERT INTO _ayb_jobs_migrations (version, name, checksum) VALUES (9999, '9999_future', '')")
    done = manage(tmp_path, environ, "migrate", "--database", "queue")
    assert done.stderr.startswith("CommandError: ayb-jobs: the database's schema is version 9999")


def test_an_address_has_what_libpq_knows_and_is_read_as_it_was_written() -> None:
    params = {
        "dbname": "a b", "password": "it's \\ it", "port": 5433, "sslmode": "require", "cursor_factory": dict,
        "prepare_threshold": 3,
    }  # fmt: skip
    assert conninfo_to_dict(address_words(params)) == {
        "dbname": "a b", "password": "it's \\ it", "port": "5433", "sslmode": "require"
    }  # fmt: skip


def test_a_project_stands_beneath_file_environment_and_flags(tmp_path: Path) -> None:
    project = Project(name="shop", values={"jobs.worker_concurrency": 1, "handlers.packs": [], "jobs.enabled": True})
    file = tmp_path / "ayb-jobs.toml"
    file.write_text("[jobs]\nworker_concurrency = 2\n")
    config = load_config(file, {"AYB_JOBS_ENABLED": "false"}, project=project)
    assert (config.jobs.worker_concurrency, config.jobs.enabled, config.handlers.packs) == (2, False, [])
    assert load_config(file, {}, {"jobs.worker_concurrency": 3}, project=project).jobs.worker_concurrency == 3
