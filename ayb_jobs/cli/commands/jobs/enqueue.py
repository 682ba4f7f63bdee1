"""`ayb-jobs jobs enqueue`."""

from typing import Any

import click

from ayb_jobs.cli.backend.backend import open_jobs
from ayb_jobs.cli.commands.jobs.printing import print_change
from ayb_jobs.cli.options import Options, backend_options, pass_options
from ayb_jobs.cli.values import DURATION, INSTANT, JSON, WholeNumber
from ayb_jobs.cli.warnings import (
    warning_of_parents_that_are_gone,
    warning_of_unknown_type,
    warning_of_unserved_queue,
)
from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.dependencies import RULES
from ayb_jobs.model.unique import ON_CONFLICT, SCOPES

# Flags whose names are not those of the API's fields.
FIELDS = {
    "delay_s": "delaySec",
    "run_at": "runAt",
    "max_attempts": "maxAttempts",
    "idempotency_key": "idempotencyKey",
    "limit_key": "limitKey",
    "unique_key": "uniqueKey",
    "unique_by": "uniqueBy",
    "unique_scope": "uniqueScope",
    "on_conflict": "onConflict",
    "max_wait_s": "maxWaitSec",
    "depends_on": "dependsOn",
    "on_parent_failure": "onParentFailure",
    "batch_id": "batchId",
}


@click.command
@click.argument("type_", metavar="TYPE")
@click.option(
    "--payload", type=JSON, metavar="JSON", help="What the job is given: JSON, @FILE, or - for standard input."
)
@click.option("--queue", metavar="QUEUE", help="The queue; `default` if not given.")
@click.option("--priority", type=WholeNumber(1, 4), help="1 goes first; 2 if not given.")
@click.option("--max-attempts", type=WholeNumber(1), help="How often it may be tried; what its type says if not given.")
@click.option("--in", "delay_s", type=DURATION, metavar="TIME", help="Not before so long from now: 90s, 15m, 2h, 1d.")
@click.option("--at", "run_at", type=INSTANT, metavar="WHEN", help="Not before then: 2030-01-31T09:00:00+01:00.")
@click.option("--idempotency-key", metavar="KEY", help="If a job with this key exists, no second one is made.")
@click.option("--limit-key", metavar="KEY", help="Its key if its type is limited.")
@click.option("--unique-key", metavar="KEY", help="The key of which at most one job waits or runs.")
@click.option(
    "--unique-by",
    multiple=True,
    metavar="FIELD",
    help="The same, made from this field of the payload; may be repeated.",
)
@click.option(
    "--unique-scope", type=click.Choice(SCOPES), help="How long a job holds its key; `unfinished` if not given."
)
@click.option(
    "--on-conflict", type=click.Choice(ON_CONFLICT), help="What to do if a job holds the key; `return` it if not given."
)
@click.option(
    "--max-wait", "max_wait_s", type=DURATION, metavar="TIME", help="The longest that debouncing delays a job."
)
@click.option(
    "--depends-on", multiple=True, metavar="JOB-ID", help="Wait until this job has completed; may be repeated."
)
@click.option(
    "--on-parent-failure", type=click.Choice(RULES), help="If such a job failed or was canceled; `cancel` if not given."
)
@click.option("--batch", "batch_id", metavar="BATCH-ID", help="Make it a member of this batch, which is not done yet.")
@backend_options
@pass_options
def enqueue(options: Options, /, type_: str, **asked: Any) -> None:
    """Put a job of TYPE into the queue, due now unless --in or --at says otherwise."""
    if asked["delay_s"] is not None and asked["run_at"] is not None:
        raise InvalidInput("give --in or --at, not both", field="run_at")
    body = {"type": type_} | {
        FIELDS.get(key, key): value for key, value in asked.items() if value is not None and value != ()
    }
    with (
        open_jobs(options) as backend,
        warning_of_unknown_type(backend, type_),
        warning_of_unserved_queue(backend, asked["queue"]),
        warning_of_parents_that_are_gone(backend, asked["depends_on"]),
    ):
        text = backend.enqueue(body)
    print_change(options, text, "{id} is {state}")
