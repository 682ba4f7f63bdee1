"""Commands are imported when they are asked for, and no sooner."""

import re
import subprocess
from collections.abc import Iterator, Mapping

import click
import pytest

from ayb_jobs.cli.lazy import Lazy, LazyGroup
from ayb_jobs.cli.program import program
from tests.cli.processes import PROGRAM, environment


def entries(group: LazyGroup = program) -> Iterator[tuple[str, Lazy]]:
    for name, lazy in group.table.items():
        yield name, lazy
        command = lazy.load()
        if isinstance(command, LazyGroup):
            yield from entries(command)


def imported(*arguments: str, environ: Mapping[str, str] | None = None, ends_with: int = 0) -> set[str]:
    """Run the program as a process that ends with `ends_with`, and return the modules that it imported."""
    done = subprocess.run(
        [PROGRAM, *arguments],
        env=environment({"PYTHONVERBOSE": "1", **(environ or {})}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == ends_with, done
    return set(re.findall(r"^import '([\w.]+)'", done.stderr, re.MULTILINE))


@pytest.mark.parametrize(("name", "lazy"), [pytest.param(*entry, id=entry[1].place) for entry in entries()])
def test_every_entry_of_a_table_leads_to_the_command_of_that_name(name: str, lazy: Lazy) -> None:
    command = lazy.load()
    assert isinstance(command, click.Command)
    assert isinstance(command, LazyGroup) == lazy.is_group
    assert command.name == name
    assert command.help
    assert lazy.help.endswith(".")


@pytest.mark.parametrize(
    ("arguments", "environ"),
    [
        ([], {}),
        (["jobs"], {}),
        (["schedules"], {}),
        ([], {"_AYB_JOBS_COMPLETE": "bash_complete", "COMP_WORDS": "ayb-jobs schedules l", "COMP_CWORD": "2"}),
    ],
    ids=["the program's help", "jobs' help", "schedules' help", "completion"],
)
def test_neither_help_nor_completion_imports_a_command(arguments: list[str], environ: dict[str, str]) -> None:
    found = imported(*arguments, *([] if environ else ["--help"]), environ=environ)
    commands = {name for name in found if name.startswith("ayb_jobs.cli.commands.")}
    assert commands <= {"ayb_jobs.cli.commands.jobs", "ayb_jobs.cli.commands.schedules"}
    assert not found & {"psycopg", "pydantic", "croniter", "structlog"}


def test_a_word_that_is_no_command_imports_groups_alone() -> None:
    found = imported("lst", ends_with=2)
    commands = {name.removeprefix("ayb_jobs.cli.commands.") for name in found if "ayb_jobs.cli.commands." in name}
    assert commands == {name for name, lazy in program.table.items() if lazy.is_group}
    assert not found & {"psycopg", "pydantic", "croniter", "structlog"}


def test_listing_imports_nothing_that_it_does_not_need(database_url: str) -> None:
    found = imported("jobs", "list", environ={"AYB_JOBS_DATABASE_URL": database_url})
    assert "psycopg" in found
    assert not found & {
        "pydantic",
        "structlog",
        "difflib",
        "secrets",  # with all of OpenSSL's hashes
        "fastapi",
        "croniter",
        "http.client",
        "ayb_jobs.config",
        "ayb_jobs.operations",  # what changes jobs
        "ayb_jobs.checks",
        "ayb_jobs.client",
        "ayb_jobs.model.waiting",  # why they wait
    }
