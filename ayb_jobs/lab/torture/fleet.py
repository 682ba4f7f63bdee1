"""The daemons: real processes of `ayb-jobs run`, each start under a name of its own."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from psycopg.conninfo import make_conninfo

from ayb_jobs.errors import DatabaseError
from ayb_jobs.lab.torture import effects, isolated
from ayb_jobs.lab.torture.fork_server import Child, ForkServer

WORKLOAD = "ayb_jobs.lab.torture.workload"
CONFIG = """
[jobs]
enabled = true
queues = ["default", "torture_paused"]
worker_concurrency = {concurrency}
process_concurrency = 1
poll_interval_ms = {poll_ms}
lease_duration_s = {lease_s}
scheduler_tick_s = 1
max_crashes = 1000000
shutdown_timeout_s = {shutdown_s}
[handlers]
modules = {modules}
packs = []
[api]
enabled = {api}
port = 0
[log]
format = "json"
[schedules.torture_ticks]
job_type = "torture_tick"
cron = "* * * * * *"
catchup = "all"
"""

API_STARTED = '"event":"api.started"'
COMPLAINT = b'"level":"error"'
LOOP = b'"event":"loop.'
STARTED_WITHIN_S = 20.0
RECOVERED_WITHIN_S = 30.0
STOPPED_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What every daemon of a fleet is started with. `further` is added to its configuration.

    If it runs `isolated` jobs, each start takes a second process, which imports what that one needs.
    """

    url: str
    folder: Path
    lease_s: int = 3
    concurrency: int = 4
    poll_ms: int = 10_000
    shutdown_s: int = 5
    api: bool = False
    isolated: bool = False
    further: str = ""
    run: str = field(default_factory=lambda: secrets.token_hex(4))

    @property
    def application(self) -> str:
        """What the names of all connections of this run's daemons begin with."""
        return f"ayb-torture-{self.run} "

    @property
    def config_file(self) -> Path:
        """The daemons' configuration."""
        return self.folder / "ayb-jobs.toml"

    def write_config(self) -> None:
        """Write the daemons' configuration."""
        values = {
            "concurrency": self.concurrency,
            "poll_ms": self.poll_ms,
            "lease_s": self.lease_s,
            "shutdown_s": self.shutdown_s,
            "api": str(self.api).lower(),
            "modules": json.dumps([WORKLOAD, isolated.MODULE] if self.isolated else [WORKLOAD]),
        }
        self.config_file.write_text(CONFIG.format(**values) + self.further)


class Daemon:
    """One place in the fleet, in which one process after the other runs; a fork server starts them quicker."""

    def __init__(self, number: int, setting: Setting, fork_server: ForkServer | None = None) -> None:
        self.number = number
        self._setting = setting
        self._fork_server = fork_server
        self._starts = 0
        self._process: subprocess.Popen[bytes] | Child | None = None
        self._unread: int | None = None

    @property
    def name(self) -> str:
        """The name of the process that runs now, or ran last."""
        return f"daemon{self.number}.{self._starts}"

    @property
    def pid(self) -> int:
        """The process that runs now, or ran last."""
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self, *, environ: Mapping[str, str] | None = None, unread_log: bool = False) -> None:
        """Start a process; with `unread_log` its log goes to a small pipe that nobody reads."""
        self._starts += 1
        setting = self._setting
        variables = {
            **os.environ,
            "AYB_JOBS_DATABASE_URL": make_conninfo(setting.url, application_name=setting.application + self.name),
            effects.FOLDER: str(setting.folder),
            effects.WRITER: self.name,
            **(environ or {}),
        }
        if self._fork_server and not environ and not unread_log:  # a preloaded library would not be loaded after a fork
            self._process = self._fork_server.start(setting.config_file, variables, self.log)
            return
        log = self._unread_pipe() if unread_log else os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ayb_jobs", "run", "--config", str(setting.config_file)],
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        os.close(log)

    def await_work(self) -> None:
        """Wait until its handlers have begun to work, or a while where they do not.

        Raises `DatabaseError` where the process ended by itself, which no fault may make it do.
        """
        give_up = time.monotonic() + STARTED_WITHIN_S
        while not self.works and time.monotonic() < give_up:
            time.sleep(0.01)

    def await_ears(self) -> None:
        """Wait until it has logged something, or a while: before that any signal ends it at once."""
        give_up = time.monotonic() + STARTED_WITHIN_S
        while self.alive and self._unread is None and not self._has_logged and time.monotonic() < give_up:
            time.sleep(0.01)

    @property
    def _has_logged(self) -> bool:
        return self.log.exists() and self.log.stat().st_size > 0

    @property
    def works(self) -> bool:
        """Whether its handlers have begun to work. Raises `DatabaseError` where the process ended by itself."""
        if not self.alive:
            raise DatabaseError(f"{self.name} ended by itself with exit code {self._exit_code()}: {self.last_words()}")
        return (self._setting.folder / f"effects-{self.name}.jsonl").exists()

    def _exit_code(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def api_url(self) -> str:
        """Return where the process serves its API, as its log says; for a setting with `api`, once it works."""
        started = next(line for line in self.log.read_text().splitlines() if API_STARTED in line)
        return str(json.loads(started)["url"])

    @property
    def log(self) -> Path:
        """The log of the process that runs now, or ran last; not there where it goes to a pipe."""
        return self._setting.folder / f"{self.name}.log"

    def await_complaint(self, since: int, *, within_s: float) -> float:
        """Wait for an error in its log, behind so many bytes; return when it was there, infinity where it never was."""
        give_up = time.monotonic() + within_s
        while time.monotonic() < give_up:
            with self.log.open("rb") as log:
                log.seek(since)
                if any(COMPLAINT in line for line in log):
                    return time.monotonic()
            time.sleep(0.05)
        return float("inf")

    def await_recovery(self) -> None:
        """Wait until by its log all its loops work, or a while where they do not."""
        give_up = time.monotonic() + RECOVERED_WITHIN_S
        while self._failing_loops() and time.monotonic() < give_up:
            time.sleep(0.1)

    def _failing_loops(self) -> set[str]:
        failing: set[str] = set()
        if not self.log.exists():
            return failing
        with self.log.open("rb") as log:
            for line in log:
                if LOOP in line and line.endswith(b"\n"):
                    told = json.loads(line)
                    if told["event"] == "loop.recovered":
                        failing.discard(told["loop"])
                    else:
                        failing.add(told["loop"])
        return failing

    def last_words(self) -> str:
        """Return the last lines of its log."""
        return (
            " ".join(self.log.read_text(errors="replace").splitlines()[-2:]) if self.log.exists() else "it left no log"
        )

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        if self._process is not None:
            self._process.send_signal(number)

    def await_end(self) -> int | None:
        """Wait for the process to end and return its exit code; one that does not end is killed, and None returned."""
        assert self._process is not None, "not started"
        try:
            return self._process.wait(STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOPPED_WITHIN_S)
            return None
        finally:
            if self._unread is not None:
                os.close(self._unread)
                self._unread = None

    def _unread_pipe(self) -> int:
        self._unread, written = os.pipe()
        os.set_blocking(written, True)
        fill(written)
        return written


def fill(pipe: int) -> None:
    """Fill a pipe to the brim."""
    os.set_blocking(pipe, False)
    try:
        while os.write(pipe, b"\n" * 65536):
            pass
    except BlockingIOError:
        pass
    finally:
        os.set_blocking(pipe, True)
