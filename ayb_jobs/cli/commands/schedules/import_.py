"""`ayb-jobs schedules import`: the schedules of other schedulers as ours."""

import codecs
import io
import sys
import tokenize
from collections.abc import Iterable
from contextlib import closing

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.database import database
from ayb_jobs.cli.backend.database_schedules import DatabaseSchedules
from ayb_jobs.cli.options import Options, common_options, json_option, pass_options
from ayb_jobs.cli.values import read_input
from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.schedules.importing.celery_beat import read_beat
from ayb_jobs.model.schedules.importing.celery_settings import beat_settings
from ayb_jobs.model.schedules.importing.crontab import JOB_TYPE, read_crontab
from ayb_jobs.model.schedules.importing.imported import Imported, as_toml, writable
from ayb_jobs.model.schedules.importing.pg_cron import read_pg_cron
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.faults import worded_faults
from ayb_jobs.storage.schedules.importing import beat_tasks, pg_cron_jobs
from ayb_jobs.wire.text import Stored, object_text, page_text


@click.command("import")
@click.argument("source", type=click.Choice(["crontab", "pg_cron", "celery"]))
@click.argument("file", metavar="[FILE]", required=False)
@click.option("--from-url", metavar="URL", help="The database that holds the tables; the configured one if not given.")
@click.option("--timezone", metavar="ZONE", help="The zone of a crontab's machine, or of Celery's settings.")
@click.option("--job-type", default=JOB_TYPE, show_default=True, metavar="TYPE", help="The type of a crontab's jobs.")
@click.option("--system", is_flag=True, help="The crontab names a user before each command, as /etc/crontab does.")
@click.option(
    "--create", is_flag=True, help="Create what can be imported, all of it or nothing, and print no settings."
)
@common_options
@json_option
@pass_options
def import_(
    options: Options,
    /,
    *,
    source: str,
    file: str | None,
    from_url: str | None,
    timezone: str | None,
    job_type: str,
    create: bool,
    system: bool,
) -> int:
    """Read the schedules of another scheduler and print them as settings, with comments on what differs here.

    \b
    crontab FILE  a crontab; - for standard input
    pg_cron       the table cron.job
    celery        the tables of django-celery-beat
    celery FILE   Python settings with beat_schedule, which are not run

    Exits with 1 if an entry cannot be imported.
    """  # noqa: D301 - click takes the backspace for "leave these lines as they are"
    if not create:
        output.must_print()
    match source:
        case "crontab":
            if file is None:
                raise InvalidInput("give the crontab's file, or - for standard input: crontab -l | … import crontab -")
            found = list(read_crontab(text_of(file, "utf-8-sig"), timezone=timezone, job_type=job_type, system=system))
        case "celery" if file is not None:
            found = list(read_beat(beat_settings(text_of(file, None), timezone=timezone)))
        case _:
            found = from_tables(options, source, from_url, timezone)
    if create:
        create_all(options, found)
    elif not options.json:
        found = list(map(writable, found))
    report(options, found, created=create)
    left_out = sum(entry.schedule is None for entry in found)
    if left_out and not options.json:
        output.say(f"Not imported: {left_out} of {len(found)}; above each stands why.")
    return int(left_out > 0)


def text_of(file: str, encoding: str | None) -> str:
    """Return a file's text, or that of standard input for `-`.

    Without `encoding`, in the one that Python source names.
    """
    try:
        data = read_input(file)
        return data.decode(encoding or tokenize.detect_encoding(io.BytesIO(data).readline)[0])
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}", field="file") from None
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file} is not {error.encoding.upper()} (byte {error.start})", field="file") from None
    except SyntaxError as error:
        raise InvalidInput(f"{file} names an encoding that cannot be used: {error}", field="file") from None


def from_tables(options: Options, source: str, from_url: str | None, timezone: str | None) -> list[Imported]:
    """Read another scheduler's tables."""
    if from_url is None:
        with database(options) as conn:
            return read_tables(conn, source, timezone)
    with closing(connect(from_url, name="ayb-jobs-import")) as conn, worded_faults():
        return read_tables(conn, source, timezone)


def read_tables(conn: Connection, source: str, timezone: str | None) -> list[Imported]:
    """Read the tables of pg_cron or django-celery-beat."""
    if source == "pg_cron":
        jobs, zone = pg_cron_jobs(conn)
        return list(read_pg_cron(jobs, timezone or zone))
    return list(read_beat(beat_tasks(conn), timezone=timezone))


def create_all(options: Options, found: Iterable[Imported]) -> None:
    """Create the schedules in one transaction, so that a name that is taken leaves nothing behind."""
    with database(options) as conn:
        DatabaseSchedules(conn, options).create_schedules([entry.schedule for entry in found if entry.schedule])


def report(options: Options, found: list[Imported], *, created: bool) -> None:
    """Print what was read: JSON, or settings, or what was created."""
    if options.json:
        output.print_page(options, page_text(map(entry_text, found)))
        return
    if not found:
        output.say("There is no schedule to import.")
        return
    if not created:
        click.echo(as_toml(found, ascii_only=codecs.lookup(sys.stdout.encoding).name != "utf-8"))
        return
    for entry in found:
        source = output.one_line(entry.source)
        click.echo(f"{output.one_line(entry.schedule.name)}  ({source})" if entry.schedule else source)
        for note in entry.notes:
            click.echo(f"    {output.one_line(note)}")
        outside = "" if entry.transaction else ", transaction = false"
        for statement in entry.statements:
            click.echo(f"    its job type is yet to be defined: statements = [{output.one_line(statement)!r}]{outside}")


def entry_text(entry: Imported) -> str:
    """Return an entry's JSON."""
    schedule = entry.schedule
    fields = None
    if schedule is not None:
        fields = object_text(
            {
                "name": schedule.name,
                "jobType": schedule.job_type,
                "cronExpr": schedule.cron,
                "timezone": schedule.timezone,
                "payload": Stored(schedule.payload_text),
                "enabled": schedule.enabled,
                "queue": schedule.queue,
                "jitterSec": schedule.jitter_s or None,
                "timeoutSec": schedule.timeout_s,
            }
        )
    return object_text(
        {
            "source": entry.source,
            "schedule": None if fields is None else Stored(fields),
            "notes": list(entry.notes),
            "statements": list(entry.statements),
            "transaction": entry.transaction,
        }
    )
