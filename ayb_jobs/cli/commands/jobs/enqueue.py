"""`ayb-jobs jobs enqueue`."""

from typing import Any

import click

from ayb_jobs.cli.backend.backend import open_jobs
from ayb_jobs.cli.commands.jobs.printing import print_change
from ayb_jobs.cli.options import Options, backend_options, pass_options
from ayb_jobs.cli.values import DURATION, INSTANT, JSON, WholeNumber
from ayb_jobs.cli.warnings import warning_of_unknown_type
from ayb_jobs.errors import InvalidInput

# Flags whose names are not those of the API's fields.
FIELDS = {
    "delay_s": "delaySec",
    "run_at": "runAt",
    "max_attempts": "maxAttempts",
    "idempotency_key": "idempotencyKey",
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
@backend_options
@pass_options
def enqueue(options: Options, /, type_: str, **asked: Any) -> None:
    """Put a job of TYPE into the queue, due now unless --in or --at says otherwise."""
    if asked["delay_s"] is not None and asked["run_at"] is not None:
        raise InvalidInput("give --in or --at, not both", field="run_at")
    body = {"type": type_} | {FIELDS.get(key, key): value for key, value in asked.items() if value is not None}
    with open_jobs(options) as backend, warning_of_unknown_type(backend, type_):
        text = backend.enqueue(body)
    print_change(options, text, "{id} is {state}")
