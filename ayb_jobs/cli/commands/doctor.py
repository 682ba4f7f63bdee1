"""`ayb-jobs doctor`: what is wrong, and what to do about it."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import click

from ayb_jobs.checks.diagnosis import QUESTIONS, Question
from ayb_jobs.checks.finding import Finding
from ayb_jobs.checks.server import unheard
from ayb_jobs.checks.verdict import look_round
from ayb_jobs.cli import output
from ayb_jobs.cli.backend.address import database_url
from ayb_jobs.cli.exits import ExitCode
from ayb_jobs.cli.options import Options, common_options, json_option, pass_options
from ayb_jobs.cli.settings import settings
from ayb_jobs.config import Retention
from ayb_jobs.errors import AybJobsError
from ayb_jobs.model.words import as_sentence
from ayb_jobs.storage.database import Connection, connect_to_primary
from ayb_jobs.storage.drift import make_index
from ayb_jobs.storage.faults import worded_faults
from ayb_jobs.storage.queue.executions import catch_up_execution_ids
from ayb_jobs.storage.server import can_see_others, reindex, vacuum
from ayb_jobs.storage.shape import enable_trigger, put_back_functions, validate_constraint

NO_RIGHT = "no right to read others' sessions: GRANT pg_read_all_stats TO this role"
# What can be mended without harm, by the name of the finding.
FIXES: Mapping[str, Callable[[Connection, Finding], None]] = {
    "table.bloated": lambda conn, finding: vacuum(conn, str(finding.evidence["name"])),
    "index.invalid": lambda conn, finding: reindex(conn, str(finding.evidence["index"])),
    "index.missing": lambda conn, finding: make_indexes(conn, finding.evidence["indexes"]),
    "sequence.behind": lambda conn, _: catch_up_execution_ids(conn),
    "function.changed": lambda conn, finding: put_back_functions(conn, finding.evidence["names"]),
    "trigger.off": lambda conn, finding: on_each(conn, finding, enable_trigger),
    "constraint.not_valid": lambda conn, finding: on_each(conn, finding, validate_constraint),
}


def on_each(conn: Connection, finding: Finding, mend: Callable[..., None]) -> None:
    """Mend each thing that a finding names."""
    for name in finding.evidence["names"]:
        mend(conn, table=finding.evidence["on"][name], name=name.partition(".")[2])


def make_indexes(conn: Connection, names: Sequence[str]) -> None:
    """Make indexes that are missing."""
    for name in names:
        make_index(conn, name)


@dataclass(slots=True)
class Report:
    """What was found, what was well, what could not be asked, what was mended, and what could not be."""

    sentence: str = ""
    findings: list[Finding] = field(default_factory=list)
    well: list[str] = field(default_factory=list)
    not_checked: dict[str, str] = field(default_factory=dict)
    fixed: list[str] = field(default_factory=list)
    not_fixed: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the report for programs."""
        findings = [
            {"name": each.name, "severity": each.severity, "fact": each.told, "evidence": each.evidence,
             "meaning": each.meaning, "remedy": each.remedy, "fixable": each.name in FIXES}
            for each in self.findings
        ]  # fmt: skip
        return {
            "sentence": self.sentence,
            "findings": findings,
            "well": self.well,
            "notChecked": self.not_checked,
            "fixed": self.fixed,
            "notFixed": self.not_fixed,
        }


@click.command
@click.option("--fix", is_flag=True, help="Mend what can be mended without harm, then look again.")
@common_options
@json_option
@pass_options
@click.pass_context
def doctor(ctx: click.Context, options: Options, *, fix: bool) -> None:
    """Look for what is wrong with the queue, its tables and its server, and say what to do.

    Each finding is told with its meaning, its remedy and the figures behind it. What this role may not look at is
    named as not checked. What somebody changed is found by making the tables anew in a transaction that is rolled back.
    With --fix, tables are vacuumed, indexes that are missing or invalid built anew, functions put back, triggers
    switched on, constraints validated, and the sequence of attempts set right. Exits with 1 if something is found, else
    with 0.
    """
    with database_url(options) as url:
        retention = Retention() if options.database_url else settings(options).retention
        with worded_faults(), closing(connect_to_primary(url, name="ayb-jobs-doctor")) as conn:
            report = examine(conn, url, retention)
            if fix:
                report = fixed(conn, url, retention, report)
    if options.json:
        output.print_json(json.dumps(report.as_json(), default=str, allow_nan=False))
    else:
        show(report)
    ctx.exit(ExitCode.FAILED if report.findings else ExitCode.OK)


def examine(conn: Connection, url: str, retention: Retention) -> Report:
    """Ask every check."""
    report = Report()
    verdict = look_round(conn, retention).verdict
    report.sentence = verdict.sentence
    report.findings += verdict.findings
    if any(each.name.startswith(("schema.", "database.")) for each in verdict.findings):
        report.not_checked["everything else"] = "the database has to be fit first"
        return report
    sees_others = can_see_others(conn)
    for question in QUESTIONS:
        if question.sees_others and not sees_others:
            report.not_checked[question.words] = NO_RIGHT
        else:
            _ask(conn, question, report)
    _hear(url, report)
    return report


def _ask(conn: Connection, question: Question, report: Report) -> None:
    try:
        with worded_faults():
            found = list(question.ask(conn))
    except AybJobsError as error:
        report.not_checked[question.words] = str(error)
        return
    report.findings += found
    if not found:
        report.well.append(question.words)


def _hear(url: str, report: Report) -> None:
    """Send a notification, and see whether it arrives."""
    words = "notifications arrive"
    try:
        fault = unheard(url)
    except AybJobsError as error:
        report.not_checked[words] = str(error)
        return
    if fault is None:
        report.well.append(words)
    else:
        report.findings.append(fault)


def fixed(conn: Connection, url: str, retention: Retention, before: Report) -> Report:
    """Mend what can be mended, and return what is found then."""
    done, failed = [], {}
    for finding in before.findings:
        if finding.name in FIXES:
            try:
                with worded_faults():
                    FIXES[finding.name](conn, finding)
                done.append(finding.fact)
            except AybJobsError as error:
                failed[finding.fact] = str(error)
    after = examine(conn, url, retention) if done else before
    after.fixed, after.not_fixed = done, failed
    return after


def show(report: Report) -> None:
    """Print the report for people."""
    click.echo("\n".join(map(output.one_line, lines(report))))


def lines(report: Report) -> Iterator[str]:
    """Yield the report's lines."""
    yield report.sentence
    for fact in report.fixed:
        yield f"mended: {fact}"
    for fact, error in report.not_fixed.items():
        yield f"not mended: {fact}: {error}"
    for each in report.findings:
        yield ""
        yield f"✗ {as_sentence(each.told)}"
        yield f"  {each.meaning}"
        yield f"  Do: {each.remedy}"
    if report.well:
        yield ""
    for words in report.well:
        yield f"✓ {words}"
    for words, why in report.not_checked.items():
        yield f"? not checked, whether {words}: {why}"
