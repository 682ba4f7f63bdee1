"""`ayb-jobs why`."""

from typing import Any

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.backend import open_jobs
from ayb_jobs.cli.options import Options, backend_options, pass_options
from ayb_jobs.cli.output import decoded
from ayb_jobs.cli.warnings import warn
from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.checked import checked_id
from ayb_jobs.model.names import unserved_queue
from ayb_jobs.model.words import as_ended, as_sentence, count_words


@click.command
@click.argument("job_id", metavar="[JOB-ID]", default="")
@click.option("--queue", metavar="NAME", help="Say why the jobs of this queue wait.")
@backend_options
@pass_options
def why(options: Options, job_id: str, queue: str | None) -> None:
    """Say why a job waits, why the jobs of a queue do, or why any do.

    Many jobs are grouped by type and queue, and the first of each group is asked. What helps stands below each reason,
    if something does. Nothing is changed.
    """
    output.must_print()
    if job_id and queue:
        raise InvalidInput("give a job or --queue, not both", field="queue")
    if job_id:
        check_job(job_id)
    with open_jobs(options) as backend:
        text = backend.why(job_id or None, queue)
        served = backend.served_queues() if queue and not decoded(text)["items"] else None
    if queue and served is not None and (warning := unserved_queue(queue, served)):
        warn(warning)
    if options.json:
        output.print_page(options, text)
        return
    waits = decoded(text)["items"]
    if options.output == "csv":
        print_csv(waits)
        output.say_if_more(text, "groups of waiting jobs")
        return
    lines = [line for wait in waits for line in lines_of(wait, alone=bool(job_id))]
    click.echo("\n".join(map(output.one_line, lines)) or no_job(queue))
    output.say_if_more(text, "groups of waiting jobs")


def no_job(queue: str | None) -> str:
    """Return that nothing waits, in a queue if one is named."""
    return output.one_line(f"No job waits in queue {queue}." if queue else "No job waits.")


def check_job(job_id: str) -> None:
    """Raise `InvalidInput` if a text is no id; people give the name of a job's type or of its queue."""
    try:
        checked_id(job_id)
    except InvalidInput:
        told = f"{job_id!r} is not a job's id; give an id, --queue NAME, or neither for whatever waits"
        raise InvalidInput(told, field="job") from None


def lines_of(wait: dict[str, Any], *, alone: bool) -> list[str]:
    """Return what is told of a wait."""
    remedy = [f"  Do: {wait['remedy']}"] if "remedy" in wait else []
    if alone or "jobId" not in wait:
        return [as_sentence(wait["reason"]), *remedy]
    if wait["jobs"] == 1 and not wait["atLeast"]:
        return [as_ended(f"{wait['type']} {wait['jobId']} in queue {wait['queue']}: {wait['reason']}"), *remedy]
    jobs = count_words(wait["jobs"], f"{wait['type']} job", cut=wait["atLeast"])
    return [as_ended(f"{jobs} in queue {wait['queue']}; the first, {wait['jobId']}: {wait['reason']}"), *remedy]


def print_csv(waits: list[dict[str, Any]]) -> None:
    """Print waits as a table for programs."""
    keys = ["jobs", "type", "queue", "jobId", "kind", "reason", "remedy"]
    rows = [[output.so_many(wait["jobs"], wait), *(str(wait.get(key, "")) for key in keys[1:])] for wait in waits]
    output.print_table([output.Column(title=key.upper()) for key in keys], rows, form="csv")
