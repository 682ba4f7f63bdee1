"""Handlers for child processes: well-behaved ones, and poison."""

import ctypes
import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ayb_jobs import Cancel, Discard, JobContext, Registry, Snooze

registry = Registry()


@registry.handler("innocent", isolation="process")
def innocent(ctx: JobContext) -> int:
    return int(ctx.payload["n"])


@registry.handler("where", isolation="process")
def where(ctx: JobContext) -> None:
    with ctx.connection() as conn:
        conn.execute("INSERT INTO places VALUES (%s, %s)", (ctx.job.id, os.getpid()))


@registry.handler("patient", isolation="process", timeout_s=30 * 86_400)
def patient(ctx: JobContext) -> None:
    """Take longer than a look at it, with more time than `poll` can be told."""
    time.sleep(0.3)
    where(ctx)


@registry.handler("plain")
def plain(ctx: JobContext) -> None:
    """Run in a child only if the settings say so."""
    where(ctx)


HOARD: list[bytes] = []


@registry.handler("hoard", isolation="process")
def hoard(ctx: JobContext) -> None:
    """Keep more than half of the memory that the child may have."""
    HOARD.append(b"x" * (90 * 1024 * 1024))
    where(ctx)


@dataclass
class Order:
    number: int


@registry.handler("stepping", isolation="process")
def stepping(ctx: JobContext, order: Order) -> Any:
    """Do a step, and come again; the step is done once."""
    done = ctx.step("note", lambda: (where(ctx), order.number)[1])
    return Snooze(0) if ctx.attempt == 1 else {"done": done}


@registry.handler("end", isolation="process", max_attempts=1)
def end(ctx: JobContext) -> Any:
    """End in the way that the payload says."""
    match ctx.payload:
        case "snooze":
            return Snooze(3600)
        case "cancel":
            return Cancel("no need")
        case "discard":
            raise Discard("never")
        case "raise":
            raise ValueError("broken in the child")
        case "exit":
            raise SystemExit(3)
        case "transaction":
            with ctx.transaction() as conn:
                conn.execute("INSERT INTO places VALUES (%s, %s)", (ctx.job.id, os.getpid()))
        case "progress":
            ctx.log.info("half.way", step=1)
            ctx.progress(7, "half")
        case "result":
            return {"size": 3}
        case "bad":
            return object()
    return None


@registry.handler("wait", isolation="process")
def wait(ctx: JobContext) -> None:
    """Wait until told to stop, and obey if the payload says so."""
    with ctx.connection_without_transaction() as conn:
        conn.execute("INSERT INTO places VALUES (%s, %s)", (ctx.job.id, os.getpid()))
    if ctx.payload == "deaf":
        time.sleep(3600)
    ctx.stopping.wait()
    if ctx.payload == "slow":  # to obey: what is ordered behind it is taken back long before
        time.sleep(0.5)
    ctx.check()


@registry.handler("poison", isolation="process", max_attempts=1, timeout_s=5)
def poison(ctx: JobContext) -> None:
    """Do what costs a process."""
    match ctx.payload:
        case "segfault":
            ctypes.string_at(0)
        case "abort":
            os.abort()
        case "exit":
            os._exit(0)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "memory":
            hoard = bytearray()
            while True:
                hoard += bytearray(64 * 1024 * 1024)
        case "regex":
            re.match(r"(a+)+$", "a" * 64 + "b")
        case "fork":
            forked = os.fork()
            if forked == 0:
                time.sleep(3600)
            Path(os.environ["FORKED_PID_FILE"]).write_text(str(forked))
            os._exit(9)
