"""The effect log: what handlers did, one line of JSON each, appended by the handlers to their daemon's own file."""

import asyncio
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, get_args

from ayb_jobs.errors import Stopped
from ayb_jobs.handlers.async_context import AsyncJobContext
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.lab.checker import Run
from ayb_jobs.lab.checker.evidence import Ending

FOLDER = "TORTURE_FOLDER"
WRITER = "TORTURE_WRITER"


@cache
def _file() -> int:
    path = Path(os.environ[FOLDER]) / f"effects-{os.environ[WRITER]}.jsonl"
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def note(context: JobContext | AsyncJobContext, what: str) -> None:
    """Write that a run has started, or how it ended. In the file before this returns, so that a kill cannot take it."""
    write(context.job.id, context.job.lease_id, context.job.attempt, what)


def write(job_id: str, lease_id: str, attempt: int, what: str) -> None:
    """Write the same of an attempt that no context tells of."""
    line = {"job": job_id, "lease": lease_id, "attempt": attempt, "what": what, "at": time.monotonic()}
    os.write(_file(), json.dumps(line).encode() + b"\n")


@contextmanager
def noted(context: JobContext | AsyncJobContext) -> Iterator[None]:
    """Write that a run starts, and how the block ends."""
    note(context, "start")
    try:
        yield
    except (Stopped, asyncio.CancelledError):
        note(context, "stopped")
        raise
    except BaseException:
        note(context, "error")
        raise
    note(context, "ok")


def read(folder: Path) -> list[Run]:
    """Return every run that any daemon's handlers told of."""
    return [run for path in sorted(folder.glob("effects-*.jsonl")) for run in _runs(path)]


def _runs(path: Path) -> Iterator[Run]:
    """Return the runs of one daemon.

    Of two endings the later counts, as where a commit fails after the work was done.
    """
    writer = path.stem.removeprefix("effects-")
    runs: dict[str, Run] = {}
    for line in _lines(path):
        lease = line["lease"]
        if line["what"] == "start":
            if lease in runs:
                yield runs[lease]
            runs[lease] = Run(line["job"], lease, line["attempt"], writer, line["at"], None, "unknown")
        elif line["what"] in get_args(Ending):
            runs[lease] = runs[lease]._replace(ended=line["at"], ending=line["what"])
    yield from runs.values()


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open() as file:
        for text in file:
            if text.endswith("\n"):
                yield json.loads(text)
