"""Standard streams that are closed, full or broken: the exit code tells of the work."""

import json
import os
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from ayb_jobs.cli.exits import ExitCode
from ayb_jobs.cli.lazy import LazyGroup
from ayb_jobs.cli.program import program
from ayb_jobs.storage.database import Connection
from tests.cli.processes import PROGRAM, environment
from tests.factories import make_job

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")

STDIN, STDOUT, STDERR = range(3)
SPOILED = [(fd, how) for fd, how in product(range(3), ("closed", "full", "broken")) if (fd, how) != (STDIN, "full")]
# A line for each command, with which it succeeds; what stands in braces is there.
COMMANDS: dict[str, str] = {
    "migrate": "migrate --plan",
    "check-config": "check-config",
    "grant": "grant pg_monitor --read",
    "health": "health",  # fails, since no daemon runs
    "jobs list": "jobs list",
    "jobs show": "jobs show {job}",
    "jobs stats": "jobs stats --json",
    "jobs enqueue": "jobs enqueue work",
    "jobs retry": "jobs retry {failed}",
    "jobs cancel": "jobs cancel {job}",
    "jobs run-again": "jobs run-again {job}",
    "schedules list": "schedules list",
    "schedules show": "schedules show s",
    "schedules create": "schedules create --name new --job-type work --cron @daily",
    "schedules update": "schedules update s --priority 3",
    "schedules enable": "schedules enable s",
    "schedules disable": "schedules disable s",
    "schedules delete": "schedules delete s",
    "schedules trigger": "schedules trigger s",
    "schedules preview": "schedules preview --cron @daily",
    "schedules timeline": "schedules timeline",
    "schedules lint": "schedules lint",
    "schedules overdue": "schedules overdue",
    "schedules fires": "schedules fires --json",
    "schedules diff": "schedules diff",  # ends with 1, since the packs' schedules are missing
    "schedules import": "schedules import crontab {crontab}",
    "queues list": "queues list",
    "queues pause": "queues pause reports --reason tidying",
    "queues resume": "queues resume reports",
    "types list": "types list",
    "types pause": "types pause work --reason tidying",
    "types resume": "types resume work",
    "keys list": "keys list",
    "keys pause": "keys pause few/acme --reason tidying",
    "keys resume": "keys resume few/acme",
    "limits list": "limits list",
    "limits set": "limits set few --type work --max-running 3",
    "limits remove": "limits remove few",
    "batches list": "batches list",
    "batches show": "batches show {batch}",
    "batches create": "batches create --on-done work",
    "batches seal": "batches seal {batch}",
    "batches cancel": "batches cancel {batch}",
    "why": "why",
    "drain": "drain",  # fails, since no daemon runs
    "top": "top --once",
    "doctor": "doctor",  # fails, since no daemon runs
    "completion": "completion bash",
}
# Their work is printing: they end with an error of standard output.
PRINTING = {
    "check-config",
    "jobs list",
    "jobs show",
    "jobs stats",
    "schedules list",
    "schedules show",
    "schedules preview",
    "schedules timeline",
    "schedules fires",
    "schedules import",
    "queues list",
    "top",
    "types list",
    "keys list",
    "limits list",
    "batches list",
    "batches show",
    "why",
    "completion",
}
# Run for long, or need what is not there; each has tests of its own.
LONG = {"run", "demo", "bench", "torture", "database-url", "jobs output"}
# Another name of the same command.
NAMED_TWICE = {"jobs why"}


def leaves(group: LazyGroup, path: str = "") -> set[str]:
    found = set()
    for name, lazy in group.table.items():
        command = lazy.load()
        found |= leaves(command, f"{path}{name} ") if isinstance(command, LazyGroup) else {path + name}
    return found


def test_every_command_is_tried_on_broken_streams() -> None:
    assert leaves(program) == COMMANDS.keys() | LONG | NAMED_TWICE


class Forked:
    """A process that runs a command with broken streams; see `forked`."""

    def __init__(self) -> None:
        python = PROGRAM.with_name("python")
        self.process = subprocess.Popen(
            [python, "-m", "tests.cli.forked"],
            cwd=Path(__file__).parents[2],
            env=environment({}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, **case: Any) -> int:
        """Run a command and return its exit code."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(case) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate(timeout=60)


@pytest.fixture(scope="module")
def forked() -> Iterator[Forked]:
    with closing(Forked()) as process:
        yield process


def rows(conn: Connection) -> dict[str, int]:
    """Return how many rows there are that commands make."""
    counts = {}
    for table in ("_ayb_jobs", "_ayb_job_schedules", "_ayb_job_audit"):
        row = conn.execute(f"SELECT count(*) FROM {table}").fetchone()
        assert row
        counts[table] = row[0]
    return counts


def make_batch(conn: Connection) -> str:
    """Make a batch that is open, with a job that waits."""
    made = conn.execute("INSERT INTO _ayb_job_batches (id) VALUES (gen_random_uuid()) RETURNING id::text").fetchone()
    assert made
    make_job(conn, batch_id=made[0])
    return str(made[0])


def some(name: str) -> list[tuple[int, str]]:
    """Return two of the ways to spoil a stream, so that commands one after another try them all.

    A command that prints is tried with what makes it fail, too.
    """
    place = 2 * list(COMMANDS).index(name)
    taken = [SPOILED[(place + step) % len(SPOILED)] for step in range(2)]
    return [*taken, *((STDOUT, how) for how in ("full", "broken") if name in PRINTING and (STDOUT, how) not in taken)]


@pytest.mark.parametrize(
    ("name", "ways"),
    [
        *(pytest.param(name, some(name), id=name) for name in COMMANDS),
        *(pytest.param(name, SPOILED, id=f"{name} in every way", marks=pytest.mark.slow) for name in COMMANDS),
    ],
)
def test_the_exit_code_tells_of_the_work_not_of_the_printing(
    name: str, ways: list[tuple[int, str]], forked: Forked, database_url: str, conn: Connection, tmp_path: Path
) -> None:
    (tmp_path / "crontab").write_text("0 3 * * * backup\n")
    environ = {"AYB_JOBS_DATABASE_URL": database_url, "AYB_JOBS_ENABLED": "true"}

    def arguments() -> list[str]:
        conn.execute("DELETE FROM _ayb_job_schedules")
        conn.execute("INSERT INTO _ayb_job_schedules (name, job_type, cron_expr) VALUES ('s', 'work', '0 3 * * *')")
        return [
            word.format(
                job=make_job(conn),
                failed=make_job(conn, "failed"),
                batch=make_batch(conn),
                crontab=tmp_path / "crontab",
            )
            for word in COMMANDS[name].split()
        ]

    def tried(stream: int | None, how: str | None) -> tuple[int, dict[str, int]]:
        words = arguments()
        before = rows(conn)
        said = str(tmp_path / "said")
        code = forked.run(arguments=words, environ=environ, said=said, stream=stream, how=how)
        return code, {table: count - before[table] for table, count in rows(conn).items()}

    whole, changes = tried(None, None)
    assert whole in {ExitCode.OK, ExitCode.FAILED}
    for stream, how in ways:
        expected: int = whole
        if name in PRINTING and stream == STDOUT and how != "closed":
            expected = ExitCode.IO_ERROR if how == "full" else ExitCode.BROKEN_PIPE
        assert (stream, how, *tried(stream, how)) == (stream, how, expected, changes)
    assert "Traceback" not in (tmp_path / "said").read_text()


@pytest.mark.parametrize(
    ("redirection", "code"),
    [(">&-", 0), ("2>&-", 0), ("<&-", 0), (">&- 2>&- <&-", 0), (">/dev/full", 0), ("2>/dev/full", 0)],
)
def test_a_job_is_made_once_whatever_the_shell_did_to_the_streams(
    database_url: str, conn: Connection, redirection: str, code: int
) -> None:
    command = f"'{PROGRAM}' jobs enqueue work {redirection}"
    environ = environment({"AYB_JOBS_DATABASE_URL": database_url})
    done = subprocess.run(["bash", "-c", command], env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert rows(conn)["_ayb_jobs"] == 1


def test_a_lost_output_of_what_was_done_is_told(database_url: str) -> None:
    environ = environment({"AYB_JOBS_DATABASE_URL": database_url})
    command = f"'{PROGRAM}' jobs enqueue work >/dev/full"
    done = subprocess.run(["bash", "-c", command], env=environ, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == "ayb-jobs: warning: it is done, but what it printed was lost: No space left on device\n"


@pytest.mark.parametrize("encoding", ["latin-1", "cp932", "ascii:strict"])
def test_what_an_encoding_lacks_is_escaped_and_the_work_is_done(
    database_url: str, conn: Connection, tmp_path: Path, encoding: str
) -> None:
    environ = environment({"AYB_JOBS_DATABASE_URL": database_url, "PYTHONIOENCODING": encoding})

    def printed(*arguments: str) -> bytes:
        return subprocess.run([PROGRAM, *arguments], env=environ, capture_output=True, timeout=60, check=True).stdout

    assert b"is paused" in printed("queues", "pause", "\u540d\u00e9\U0001f680")
    job_id = make_job(conn, type="\u540d\u00e9\U0001f680")
    codec = "utf-8" if encoding == "ascii:strict" else encoding
    assert json.loads(printed("jobs", "show", job_id, "--json").decode(codec))["type"] == "\u540d\u00e9\U0001f680"
    (tmp_path / "crontab").write_text("0 8 * * * say \u540d\u00e9\U0001f680\n")
    settings = tomllib.loads(printed("schedules", "import", "crontab", str(tmp_path / "crontab")).decode())
    assert settings["schedules"]["say"]["payload"] == {"command": "say \u540d\u00e9\U0001f680"}


@pytest.mark.parametrize("stdin", ["<&-", "</dev/null", "0>/dev/full", "</dev/zero"])
def test_a_payload_from_an_unreadable_standard_input_is_told(database_url: str, conn: Connection, stdin: str) -> None:
    environ = environment({"AYB_JOBS_DATABASE_URL": database_url})
    command = f"'{PROGRAM}' jobs enqueue work --payload - {stdin}"
    done = subprocess.run(["bash", "-c", command], env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (ExitCode.USAGE, 1)
    assert "--payload" in done.stderr
    assert rows(conn)["_ayb_jobs"] == 0


def test_a_slow_reader_of_a_non_blocking_pipe_gets_everything(database_url: str, conn: Connection) -> None:
    for _ in range(3):
        make_job(conn, payload={"x": "y" * 200_000})
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    environ = environment({"AYB_JOBS_DATABASE_URL": database_url})
    with subprocess.Popen([PROGRAM, "jobs", "list", "--json"], env=environ, stdout=writing) as process:
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            assert json.loads(pipe.read())["count"] == 3
        assert process.wait(60) == 0
