"""`ayb-jobs jobs stats`."""

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.backend import open_jobs
from ayb_jobs.cli.commands.jobs.printing import STATE_STYLES, STATES
from ayb_jobs.cli.options import Options, backend_options, pass_options
from ayb_jobs.cli.output import Column, decoded, duration


@click.command
@backend_options
@pass_options
def stats(options: Options) -> None:
    """Count jobs by state; tell how long the oldest due job has waited, and which ones no live daemon can run."""
    output.must_print()
    with open_jobs(options) as backend:
        text = backend.job_stats()
    if options.json:
        output.print_json(text)
        return
    counts = decoded(text)
    estimated = counts.get("estimated", [])
    rows = [[state, f"{'about ' if state in estimated else ''}{counts[state]:,}"] for state in STATES]
    output.print_table(
        [Column(title="STATE", key=True), Column(title="JOBS", right=True, key=True)],
        rows,
        [STATE_STYLES[state] for state in STATES],
        form=options.output,
    )
    oldest_s = counts.get("oldestQueuedAgeSec")
    if oldest_s is not None:
        output.say(f"The oldest due job has waited for {duration(oldest_s)}.")
    startable_s = counts.get("oldestStartableAgeSec")
    if startable_s is not None:
        output.say(f"The oldest that waits for nothing but a slot has waited for {duration(startable_s)}.")
    is_cut = counts.get("unclaimableAtLeast", False)
    if unclaimable := counts.get("unclaimable"):
        listed = ", ".join(f"{output.one_line(name)} {count:,}" for name, count in unclaimable.items())
        least = ", and there may be more" if is_cut else ""
        output.say(f"Due, and no live daemon can run them: {listed}{least}.")
    elif is_cut:
        output.say("Not all due jobs were looked at: some may be among them that no live daemon can run.")
