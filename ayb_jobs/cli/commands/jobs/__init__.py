"""`ayb-jobs jobs`: look at jobs; enqueue, retry and cancel them."""

import click

from ayb_jobs.cli.lazy import Lazy, LazyGroup
from ayb_jobs.cli.options import backend_options

COMMANDS = {
    "list": Lazy("jobs.list:list_", "List jobs, the newest first.", ("ls", "ps", "all")),
    "show": Lazy(
        "jobs.show:show",
        "Show one job and its attempts.",
        ("get", "info", "inspect", "view", "describe"),
    ),
    "why": Lazy("why:why", "Say why a job waits, as ayb-jobs why does.", ("explain", "reason", "waits")),
    "output": Lazy("jobs.output:output_", "Print what a job's command wrote.", ("log", "logs", "stdout", "stderr")),
    "stats": Lazy("jobs.stats:stats", "Count jobs by state.", ("count", "counts", "summary", "top")),
    "enqueue": Lazy(
        "jobs.enqueue:enqueue",
        "Put a job into the queue.",
        ("add", "push", "submit", "send", "insert", "create", "new", "dispatch", "run"),
    ),
    "retry": Lazy("jobs.retry:retry", "Queue failed jobs again.", ("rerun", "requeue", "redo", "restart")),
    "run-again": Lazy(
        "jobs.run_again:run_again", "Make a new job of an old one.", ("clone", "copy", "again", "repeat")
    ),
    "cancel": Lazy("jobs.cancel:cancel", "Cancel queued jobs.", ("kill", "abort", "rm", "remove", "delete", "discard")),
}


@click.group(cls=LazyGroup, table=COMMANDS)
@backend_options
def jobs() -> None:
    """Look at jobs; enqueue, retry and cancel them."""
