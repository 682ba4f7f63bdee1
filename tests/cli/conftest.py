"""The command line in the test's own process, on a real database or through a real API."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any

import pytest
from click.testing import CliRunner

from ayb_jobs.cli.main import main
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.throwaway import Databases
from tests.http.conftest import ADMIN, serving

# Before 8.2, click gives stderr a stream of its own only if it is asked for.
APART: dict[str, Any] = {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}


@dataclass(frozen=True, slots=True)
class Said:
    """What a command ended with."""

    code: int
    out: str
    err: str


class Cli:
    """Runs commands, with `environ` as all that they see of `AYB_*` variables."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = dict(environ)

    def __call__(self, *arguments: str, stdin: bytes = b"", **environ: str) -> Said:
        cleared: dict[str, str | None] = {name: None for name in os.environ if name.startswith("AYB_")}
        with CliRunner(**APART).isolation(input=stdin, env=cleared | self.environ | environ) as streams:
            try:
                main(arguments)
            except SystemExit as ended:
                code = ended.code
            out, err, *_ = (stream.getvalue().decode() for stream in streams if stream is not None)
        assert isinstance(code, int)
        return Said(code, out, err)

    def ok(self, *arguments: str, **settings: Any) -> str:
        """Run a command that is to succeed, and return what it printed."""
        said = self(*arguments, **settings)
        assert said.code == 0, said
        return said.out


@pytest.fixture
def database_cli(database_url: str) -> Cli:
    """The command line on the database itself."""
    return Cli({"AYB_JOBS_DATABASE_URL": database_url, "AYB_JOBS_ENABLED": "true"})


@contextmanager
def through_api(db: Database) -> Iterator[Cli]:
    with serving(db) as server:
        yield Cli({"AYB_JOBS_URL": server.url, "AYB_JOBS_ADMIN_TOKEN": ADMIN})


@pytest.fixture
def api_cli(db: Database) -> Iterator[Cli]:
    """The command line through the API of a daemon on the same database."""
    with through_api(db) as cli:
        yield cli


@pytest.fixture(params=["database", "api"])
def cli(request: pytest.FixtureRequest, databases: Databases) -> Cli:
    """The command line, both ways. (`databases` outlive the test, so they are asked for before it begins.)"""
    found: Cli = request.getfixturevalue(f"{request.param}_cli")
    return found
