"""`ayb-jobs check-config` says before the start what would keep the daemon from working."""

import json
import subprocess
from pathlib import Path

import pytest

from ayb_jobs.cli.exits import ExitCode
from tests import forked
from tests.cli.processes import PROGRAM, environment

MODULE = """
from ayb_jobs import Registry

registry = Registry()

@registry.handler("send_mail")
def send_mail(ctx):
    pass
"""
FAULTY = """
[handlers]
modules = ["mine", "absent", "broken", "empty"]

[job_types.tidy]
timeout_s = 5
"""
SCHEDULES = """
[handlers]
modules = ["mine"]

[schedules.known]
job_type = "send_mail"
cron = "@daily"

[schedules.near]
job_type = "sendmail"
cron = "@daily"

[schedules.far]
job_type = "unheard-of"
cron = "@daily"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with modules of handlers, good and bad."""
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "empty.py").write_text("")
    return tmp_path


def check(folder: Path, settings: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    (folder / "ayb-jobs.toml").write_text(settings)
    return forked.run(
        [PROGRAM, "check-config", *arguments], cwd=folder, env=environment({"AYB_JOBS_ENABLED": "true", **environ})
    )


def test_all_is_well_is_said(folder: Path) -> None:
    done = check(folder, '[handlers]\nmodules = ["mine"]\n')
    assert (done.returncode, done.stderr) == (ExitCode.OK, "All is well.\n")
    assert '"mine"' in done.stdout
    assert "\n# Job types: expired_auth_cleanup, " in done.stdout
    assert "send_mail" in json.loads(check(folder, '[handlers]\nmodules = ["mine"]\n', "--json").stdout)["jobTypes"]


def test_disabled_jobs_are_never_called_well(folder: Path) -> None:
    done = check(folder, "", AYB_JOBS_ENABLED="false")
    warning, last = done.stderr.splitlines()
    assert done.returncode == ExitCode.OK
    assert warning.startswith("ayb-jobs: warning: jobs.enabled is false, so that this daemon runs no job")
    assert "AYB_JOBS_ENABLED=true" in warning
    assert last == "The daemon can start; 1 warning."


@pytest.mark.parametrize("address", ["hunter2-canary", "postgres//u:hunter2-canary@h/d", "host=h hunter2-canary=1"])
def test_an_address_that_the_daemon_could_not_read_is_a_fault_of_the_settings(folder: Path, address: str) -> None:
    done = check(folder, "", AYB_JOBS_DATABASE_URL=address)
    assert done.returncode == ExitCode.CONFIG
    assert done.stderr.startswith("ayb-jobs: database.url is neither a URL nor `key=value` words; write postgresql://")
    assert "hunter2" not in done.stdout + done.stderr


def test_a_fault_of_the_handlers_is_told_with_the_place_that_names_them(folder: Path) -> None:
    done = check(folder, FAULTY)
    places = [line.rpartition(" (")[2] for line in done.stderr.splitlines()]
    assert places == [*["ayb-jobs.toml, line 3)"] * 3, "ayb-jobs.toml, line 5)"]
    done = check(folder, "", AYB_JOBS_HANDLERS_MODULES="absent")
    assert done.stderr.splitlines()[0].endswith(" (environment AYB_JOBS_HANDLERS_MODULES)")


def test_handlers_that_cannot_be_had_are_named_all_together(folder: Path) -> None:
    done = check(folder, FAULTY)
    assert (done.returncode, done.stdout) == (ExitCode.CONFIG, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 4
    for line, words in zip(lines, ("absent", "ZeroDivisionError", "no Registry", "no handler of"), strict=True):
        assert line.startswith("ayb-jobs: ")
        assert words in line
    told = json.loads(check(folder, FAULTY, "--json").stdout)
    assert (told["valid"], len(told["problems"])) == (False, 4)


def test_settings_of_a_queue_that_is_not_served_are_warned_of(folder: Path) -> None:
    done = check(folder, "[jobs]\nenabled = true\nqueues = ['reports']\n[queues.report]\nconcurrency = 2\n")
    assert done.returncode == ExitCode.OK
    told, _ = done.stderr.splitlines()
    assert told == (
        "ayb-jobs: warning: queues.report is set, but jobs.queues does not name that queue; add it to jobs.queues,"
        " or take [queues.report] out; did you mean reports?"
    )


def test_a_schedule_whose_job_type_is_not_known_here_is_warned_of(folder: Path) -> None:
    done = check(folder, SCHEDULES)
    assert done.returncode == ExitCode.OK
    near, far, last = done.stderr.splitlines()
    assert near.startswith("ayb-jobs: warning: schedules.near.job_type is sendmail, which this daemon does not know")
    assert near.endswith("; did you mean send_mail?")
    assert "schedules.far.job_type is unheard-of" in far
    assert "did you mean" not in far
    assert last == "The daemon can start; 2 warnings."
    assert len(json.loads(check(folder, SCHEDULES, "--json").stdout)["warnings"]) == 2


DOUBTFUL = """
[job_types.absent]
exec = ["no-such-program"]

[job_types.no_path]
exec = ["./no/such/program"]

[job_types.inside]
http = "http://10.0.0.1/"

[job_types.allowed]
http = "http://localhost/"
allow_private = true

[job_types.there]
exec = ["sh", "-c", "true"]

[job_types.beside]
exec = ["./sh"]
cwd = "/bin"
"""


def test_a_program_that_is_not_here_and_an_address_that_is_not_allowed_are_warned_of(folder: Path) -> None:
    done = check(folder, DOUBTFUL)
    assert done.returncode == ExitCode.OK
    *warnings, last = done.stderr.splitlines()
    assert [each.removeprefix("ayb-jobs: warning: job_types.") for each in warnings] == [
        "absent.exec names no-such-program, which is in no folder of PATH on this machine; install it, or write its path",
        "no_path.exec names ./no/such/program, which is no program on this machine; install it, or correct its path",
        "inside.http leads to 10.0.0.1, which is in a private network, so that each job fails; set allow_private = true",
    ]
    assert last == "The daemon can start; 3 warnings."


def test_the_commands_token_alone_is_shown_as_what_protects_the_daemon(folder: Path) -> None:
    done = check(folder, "", AYB_JOBS_ADMIN_TOKEN="0123456789abcdef0123456789abcdef")
    assert "0123456789abcdef" not in done.stdout
    assert "# environment AYB_JOBS_ADMIN_TOKEN" in done.stdout
    assert done.stderr == "All is well.\n"
