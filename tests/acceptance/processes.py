"""Real daemons as processes of their own."""

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import forked
from tests.eventually import eventually

# Handlers for the tests: each says what it does in its file, beside the moment of a run that the test waits for.
HANDLERS = """
import os, time
from pathlib import Path
from ayb_jobs import JobContext, Registry

registry = Registry()

@registry.handler("quick")
def quick(ctx: JobContext) -> None:
    if "begun" in ctx.payload:
        Path(ctx.payload["begun"]).touch()
    time.sleep(ctx.payload.get("s", 0.01))

@registry.handler("patient")
def patient(ctx: JobContext) -> None:
    ctx.stopping.wait(60)
    ctx.check()

@registry.handler("deaf")
def deaf(ctx: JobContext) -> None:
    time.sleep(60)

@registry.handler("deadly")
def deadly(ctx: JobContext) -> None:
    os._exit(9)
"""


class DaemonProcess:
    """A running `ayb-jobs run`."""

    def __init__(self, process: subprocess.Popen[bytes], log_file: Path) -> None:
        self.process = process
        self.log_file = log_file

    def log(self) -> list[dict[str, Any]]:
        """Return the log's lines; a line that is not JSON counts as an event of its own text."""
        return [_parsed(line) for line in self.log_file.read_text().splitlines() if line.strip()]

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the lines of one event."""
        return [line for line in self.log() if line.get("event") == name]

    def await_event(self, name: str, within_s: float = 20) -> dict[str, Any]:
        """Wait for the first line of an event."""
        return eventually(lambda: self.events(name) or self._alive(), within_s=within_s)[0]

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, timeout_s: float = 30) -> int:
        """Wait for the process to end, and return its exit code."""
        return self.process.wait(timeout_s)

    def _alive(self) -> list[dict[str, Any]]:
        if self.process.poll() is not None:
            raise RuntimeError(f"the daemon ended with {self.process.returncode}:\n{self.log_file.read_text()}")
        return []


def _parsed(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        return {"event": line}
    return entry if isinstance(entry, dict) else {"event": line}


@contextmanager
def daemon(folder: Path, url: str, *flags: str, **settings: Any) -> Iterator[DaemonProcess]:
    """Run a daemon for the time of the block; `settings` are environment names without `AYB_JOBS_`, in small letters,
    and `flags` those of `run`.

    It is killed at the end where it still runs.
    """
    with started(folder, url, [*forked.MODULE, "run", *flags], settings) as process:
        yield process


@contextmanager
def executed(folder: Path, url: str, *flags: str, **settings: Any) -> Iterator[DaemonProcess]:
    """Do what `daemon` does, but by an exec instead of a fork, for tests of how the process begins and ends."""
    with started(folder, url, [*forked.MODULE, "run", *flags], settings, start=subprocess.Popen) as process:
        yield process


@contextmanager
def service(folder: Path, url: str, **settings: Any) -> Iterator[DaemonProcess]:
    """Do what `daemon` does, in a session without a terminal, as a service has it."""
    with started(folder, url, [*forked.MODULE, "run"], settings, start_new_session=True) as process:
        yield process


@contextmanager
def started(
    folder: Path,
    url: str,
    command: Sequence[str],
    settings: Mapping[str, Any],
    *,
    start: Callable[..., subprocess.Popen[bytes]] = forked.start,
    **options: Any,
) -> Iterator[DaemonProcess]:
    """Do what `daemon` does with this command; `options` are those of `Popen`."""
    folder.mkdir(exist_ok=True)
    (folder / "test_handlers.py").write_text(HANDLERS)
    defaults = {
        "enabled": "true",
        "database_url": url,
        "handlers_modules": "test_handlers",
        "handlers_packs": "",  # a built-in schedule fires when an hour begins, amid any test
        "api_enabled": "false",
        "log_format": "json",
        "lease_duration_s": "2",
        "shutdown_timeout_s": "10",
    }
    given = {name: str(value) for name, value in settings.items()}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AYB_JOBS_")}
    environ = inherited | {f"AYB_JOBS_{name.upper()}": value for name, value in (defaults | given).items()}
    log_file = folder / "daemon.log"
    with log_file.open("wb") as log:
        process = start(command, cwd=folder, env=environ, stdout=log, stderr=log, **options)
        try:
            yield DaemonProcess(process, log_file)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def readiness(port: int) -> tuple[int, list[str]]:
    """Ask a daemon's /readyz; return the status, and the reasons that it names."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as answer:
            return answer.status, json.load(answer)["reasons"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["reasons"]
    except OSError as error:
        raise AssertionError(f"no answer: {error}") from error
