"""The program as a whole: how it ends, what it never shows, and how it meets terminals and pipes."""

import importlib.metadata
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import click
import pytest

from ayb_jobs.cli.exits import MEANINGS, ExitCode
from ayb_jobs.cli.lazy import Lazy, LazyGroup
from ayb_jobs.cli.program import program
from ayb_jobs.cli.suggestions import FLAGS
from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.storage.database import Connection, connect
from tests.cli.conftest import Cli, Said
from tests.cli.processes import PROGRAM, environment, on_terminal
from tests.eventually import eventually
from tests.factories import make_job

COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
SECRET = "hunter2-canary"


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """The command line in an empty folder, told nothing of any database."""
    monkeypatch.chdir(tmp_path)
    return Cli({})


def one_line(said: Said) -> str:
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("ayb-jobs: ")
    assert "Traceback" not in said.err
    return said.err


def test_both_names_are_the_same_program() -> None:
    scripts = {script.name: script.value for script in importlib.metadata.distribution("ayb-jobs").entry_points}
    assert scripts["ayb"] == scripts["ayb-jobs"] == "ayb_jobs.cli.main:main"


def test_ctrl_c_while_the_program_is_imported_ends_it_without_a_traceback() -> None:
    tells_imports = environment({}) | {"PYTHONPROFILEIMPORTTIME": "1"}
    with subprocess.Popen([PROGRAM, "--version"], stderr=subprocess.PIPE, text=True, env=tells_imports) as begun:
        assert begun.stderr is not None
        next(line for line in begun.stderr if line.rpartition("|")[2].strip().startswith("click."))
        begun.send_signal(signal.SIGINT)
        rest = begun.stderr.readlines()
    assert begun.returncode == 130
    assert [line for line in rest if not line.startswith("import time:")] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("top", "--every", "0"), "'0' is not a number from 0.5 to 3600"),
        (("torture", "--seconds", "x"), "'x' is not a number of at least 3"),
        (("torture", "--daemons", "65"), "'65' is not a whole number from 1 to 64"),
        (("bench", "--jobs", "x"), "'x' is not a whole number of at least 10"),
    ],
)
def test_a_number_out_of_bounds_is_told_with_its_bounds_in_words(
    database_cli: Cli, words: tuple[str, ...], said: str
) -> None:
    refused = database_cli(*words)
    assert (refused.code, said in refused.err) == (2, True), refused


def test_a_command_imports_what_it_needs_alone(database_url: str) -> None:
    words = [sys.executable, "-X", "importtime", "-m", "ayb_jobs", "jobs", "list", "--database-url", database_url]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment({}))
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "psycopg" in imported
    assert not imported & {"psycopg_pool", "pydantic", "croniter", "structlog", "fastapi", "graphql", "rich"}


def test_a_daemons_imports_are_not_searched_for_cycles() -> None:
    code = """
import gc, os, sys
from ayb_jobs.cli.main import main
at_the_end = 2  # the generation that Python searches when it ends
gc.callbacks.append(lambda phase, told: told["generation"] == at_the_end or os.write(2, b"search"))
sys.argv = ["ayb-jobs", "run", "--help"]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Run the daemon" in done.stdout
    assert not done.stderr


@pytest.mark.parametrize("where", ["before", "between", "after"])
def test_common_options_may_stand_anywhere(database_url: str, where: str) -> None:
    flags = ["--database-url", database_url, "--json"]
    words = {"before": [*flags, "jobs", "list"], "between": ["jobs", *flags, "list"], "after": ["jobs", "list", *flags]}
    assert Cli({}).ok(*words[where]) == '{"items":[],"count":0}\n'


def test_the_last_of_two_options_and_a_flag_over_the_environment_win(database_url: str) -> None:
    wrong = "postgresql://127.0.0.1:1/none"
    cli = Cli({"AYB_JOBS_DATABASE_URL": wrong, "AYB_JOBS_URL": "http://127.0.0.1:1"})
    assert cli("jobs", "list").code == ExitCode.UNAVAILABLE
    cli.ok("--database-url", wrong, "jobs", "list", "--database-url", database_url)
    said = cli("jobs", "list", "--database-url", database_url, "--url", "http://127.0.0.1:1")
    assert (said.code, "not both" in one_line(said)) == (ExitCode.USAGE, True)


def test_the_database_is_that_of_the_configuration_file(nowhere: Cli, database_url: str, tmp_path: Path) -> None:
    (tmp_path / "ayb-jobs.toml").write_text(f'[database]\nurl = "{database_url}"\n')
    nowhere.ok("jobs", "list")
    (tmp_path / "ayb-jobs.toml").rename(tmp_path / "other.toml")
    assert nowhere("jobs", "list").code == ExitCode.UNAVAILABLE
    nowhere.ok("jobs", "list", "--config", "other.toml")
    nowhere.ok("jobs", "list", AYB_JOBS_CONFIG="other.toml")


def test_without_any_database_it_says_what_to_do(nowhere: Cli, tmp_path: Path) -> None:
    said = nowhere("jobs", "list")
    assert said.code == ExitCode.UNAVAILABLE
    assert "ayb-jobs run" in one_line(said)
    assert list(tmp_path.iterdir()) == []


def test_a_faulty_configuration_is_named_fault_by_fault(nowhere: Cli, tmp_path: Path) -> None:
    (tmp_path / "ayb-jobs.toml").write_text('[jobs]\nenabledd = true\npoll_interval_ms = "x"\n')
    said = nowhere("jobs", "list")
    assert said.code == ExitCode.CONFIG
    assert [line.startswith("ayb-jobs: ") for line in said.err.splitlines()] == [True, True]


def test_a_database_that_is_down_is_unavailable(nowhere: Cli) -> None:
    said = nowhere("--database-url", f"postgresql://u:{SECRET}@127.0.0.1:1/x", "jobs", "list")
    assert said.code == ExitCode.UNAVAILABLE
    assert "refused" in one_line(said)


def test_an_address_that_is_a_word_of_the_error_hides_nothing_of_it(nowhere: Cli) -> None:
    said = nowhere("--database-url", "postgres", "jobs", "list")
    assert "write postgresql://USER@HOST/DATABASE" in one_line(said)


def test_a_missing_argument_is_told_in_one_line_without_escapes(nowhere: Cli) -> None:
    said = nowhere("completion")
    assert said.code == ExitCode.USAGE
    assert "Choose from: bash, zsh, fish (see: " in one_line(said)


def test_a_database_without_our_tables_says_migrate(nowhere: Cli, empty_database_url: str) -> None:
    for command in (["jobs", "list"], ["jobs", "stats"], ["jobs", "enqueue", "a"], ["schedules", "list"]):
        said = nowhere(*command, AYB_JOBS_DATABASE_URL=empty_database_url)
        assert said.code == ExitCode.CONFIG
        assert "run: ayb-jobs migrate" in one_line(said)


def test_a_user_without_rights_is_told_which(nowhere: Cli, database_url: str, conn: Connection) -> None:
    conn.execute("CREATE ROLE visitor LOGIN")
    try:
        url = database_url.replace("postgres@", "visitor@")
        assert "permission denied" in one_line(nowhere("jobs", "list", "--database-url", url))
    finally:
        conn.execute("DROP ROLE visitor")


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{SECRET}@127.0.0.1:1/x",
        f"postgresql://u:{SECRET}%ZZ@127.0.0.1/x",
        f"postgresql://u:{SECRET}@127.0.0.1:x/x",
        f"host=127.0.0.1 port=1 password={SECRET}",
        f"host=127.0.0.1 port=1 password='{SECRET} and more'",
        f"nonsense {SECRET}",
        f"postgresql://[{SECRET}",
    ],
)
@pytest.mark.parametrize("more", [[], ["--debug"]])
def test_no_secret_is_ever_shown(nowhere: Cli, url: str, more: list[str]) -> None:
    for command in (["jobs", "list"], ["migrate"], ["health"], ["schedules", "list"], ["check-config"]):
        for said in (
            nowhere(*command, *more, "--database-url", url),
            nowhere(*command, *more, AYB_JOBS_DATABASE_URL=url),
        ):
            assert said.code in {ExitCode.UNAVAILABLE, ExitCode.CONFIG} or command == ["check-config"]
            assert SECRET not in said.out + said.err


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("http://127.0.0.1:1", ExitCode.UNAVAILABLE, "refused"),
        ("http://no-such-host.invalid", ExitCode.UNAVAILABLE, "cannot be reached"),
        ("127.0.0.1:8091", ExitCode.USAGE, "has no http:// in front; write one like http://127.0.0.1:8091"),
        ("ftp://127.0.0.1", ExitCode.USAGE, "http://127.0.0.1:8091"),
        (f"http://u:{SECRET}@127.0.0.1:1", ExitCode.USAGE, "http://127.0.0.1:8091"),
        ("http://127.0.0.1:99999", ExitCode.USAGE, "http://127.0.0.1:8091"),
    ],
)
def test_a_wrong_address_of_the_api_is_told(nowhere: Cli, url: str, code: int, words: str) -> None:
    said = nowhere("jobs", "list", "--url", url, "--admin-token", SECRET)
    assert said.code == code
    assert words in one_line(said)
    assert SECRET not in said.err


def test_a_wrong_token_is_told_and_where_it_goes(api_cli: Cli) -> None:
    for token in ("", SECRET, "ü"):
        said = api_cli("jobs", "list", AYB_JOBS_ADMIN_TOKEN=token)
        assert said.code in {ExitCode.NOT_PERMITTED, ExitCode.USAGE}
        assert "token" in one_line(said)
        assert SECRET not in said.err


def test_the_origins_variable_holds_a_token_too(api_cli: Cli) -> None:
    token = api_cli.environ.pop("AYB_JOBS_ADMIN_TOKEN")
    assert api_cli("jobs", "list").code == ExitCode.NOT_PERMITTED
    api_cli.ok("jobs", "list", AYB_ADMIN_TOKEN=token)
    api_cli.ok("jobs", "list", "--admin-token", token)


def test_what_is_no_api_of_ours_is_told(nowhere: Cli, api_cli: Cli) -> None:
    said = nowhere("jobs", "list", "--url", f"{api_cli.environ['AYB_JOBS_URL']}/docs")
    assert said.code != ExitCode.OK
    one_line(said)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("jobs lst", "Did you mean 'list'?"),
        ("jobs ls", "Did you mean 'list'?"),
        ("ls", "Did you mean 'jobs list'?"),
        ("list", "Did you mean 'jobs list'?"),
        ("create", "Did you mean 'schedules create'?"),
        ("enqeue", "Did you mean 'jobs enqueue'?"),
        ("start", "Did you mean 'run'?"),
        ("stop", "Did you mean 'drain'?"),
        ("queue", "Did you mean 'queues'?"),
        ("worker", "Did you mean 'run'?"),
        ("status", "Did you mean 'health'?"),
        ("config", "Did you mean 'check-config'?"),
        ("schedules rm", "Did you mean 'delete'?"),
        ("jobs list --all", "Did you mean '--limit'?"),
        ("run --workers 4", "Did you mean '--concurrency'?"),
        ("jobs list --status failed", "Did you mean '--state'?"),
        ("jobs enqueue a --delay 5", "Did you mean '--in'?"),
        ("jobs list --state lost", "'failed'"),
        ("jobs list --stat failed", "Did you mean '--state'?"),
        ("jobs show", "JOB-ID"),
        ("jobs list extra", "extra"),
        ("nonsense", "'nonsense'"),
        ("job list", "Did you mean 'jobs'?"),
        ("jobs list --limit x", "'x' is not a whole number from 1 to 500"),
        ("jobs enqueue a --max-attempts 0", "'0' is not a whole number of at least 1"),
        ("schedules update a --enabled maybe", "'maybe' is neither true nor false"),
        ("schedules update a --enabled=", "'' is neither true nor false"),
        ("schedules preview --cron @daily --from 2030-01-31T09:00:00", "time zone"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(nowhere: Cli, arguments: str, words: str) -> None:
    said = nowhere(*arguments.split())
    assert said.code == ExitCode.USAGE
    assert words in one_line(said)
    assert "--help" in said.err


@pytest.mark.parametrize("arguments", ["xyzzy", "jobs xyzzy", "jobs list --xyzzy", "health --all"])
def test_where_nothing_near_was_meant_nothing_is_suggested(nowhere: Cli, arguments: str) -> None:
    assert "Did you mean" not in one_line(nowhere(*arguments.split()))


def every_command(group: LazyGroup) -> Iterator[Lazy]:
    for lazy in group.table.values():
        yield lazy
        command = lazy.load()
        if isinstance(command, LazyGroup):
            yield from every_command(command)


def test_no_word_means_two_commands_of_a_group_and_none_is_a_command() -> None:
    jobs, schedules = (program.table[name].load() for name in ("jobs", "schedules"))
    for group in (program, jobs, schedules):
        assert isinstance(group, LazyGroup)
        words = [word for lazy in group.table.values() for word in lazy.also]
        assert len(words) == len(set(words))
        assert not set(words) & group.table.keys()


def test_every_flag_that_is_suggested_exists() -> None:
    commands = [lazy.load() for lazy in every_command(program)]
    known = {flag for command in commands for param in command.params for flag in param.opts}
    assert {f"--{flag}" for flags in FLAGS.values() for flag in flags} <= known


def test_a_defect_is_one_line_and_debug_shows_where(database_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> str:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("ayb_jobs.cli.backend.database_listing.DatabaseListing.list_jobs", broken)
    said = database_cli("jobs", "list")
    assert said.code == ExitCode.SOFTWARE
    assert "ZeroDivisionError: oh" in one_line(said)
    assert "in broken" in database_cli("jobs", "list", "--debug").err


def test_every_exit_code_has_a_meaning_and_is_documented() -> None:
    assert MEANINGS.keys() == set(ExitCode)
    text = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    for code, meaning in MEANINGS.items():
        assert f"| {code.value} | {meaning} |" in text


def test_every_command_has_its_line_of_help(nowhere: Cli) -> None:
    listed = nowhere.ok("--help")
    for name in program.list_commands(program.make_context("ayb-jobs", [], resilient_parsing=True)):
        assert re.search(rf"^  {name} +\w", listed, re.MULTILINE)
        assert nowhere.ok(name, "--help") == nowhere.ok(name, "-h")


def test_common_options_are_explained_once(nowhere: Cli) -> None:
    explained, named = nowhere.ok("--help"), nowhere.ok("jobs", "list", "--help")
    assert "The configuration file." in explained
    assert "The configuration file." not in named
    assert re.search(r"Common options +See .+ --help:\s+--config,", named)
    assert "Common options" not in explained


def leaves(command: click.Command, path: list[str]) -> Iterator[str]:
    """Yield the commands below `command`, each with the words that lead to it."""
    if not isinstance(command, click.Group):
        yield " ".join(path)
        return
    ctx = click.Context(command)
    for name in command.list_commands(ctx):
        found = command.get_command(ctx, name)
        assert found is not None
        yield from leaves(found, [*path, name])


def test_every_command_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    assert [path for path in leaves(program, []) if f"`{path}" not in text] == []


@pytest.mark.parametrize("command", ["schedules overdue", "schedules fires", "schedules lint"])
def test_a_command_for_the_database_alone_says_so(api_cli: Cli, command: str) -> None:
    said = api_cli(*command.split())
    assert said.code == ExitCode.USAGE
    assert "--database-url" in one_line(said)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_taught_to_complete_both_names(nowhere: Cli, shell: str) -> None:
    script = nowhere.ok("completion", shell)
    assert "_AYB_COMPLETE" in script
    assert "_AYB_JOBS_COMPLETE" in script


def test_commands_complete() -> None:
    environ = environment({"_AYB_JOBS_COMPLETE": "bash_complete", "COMP_WORDS": "ayb-jobs jobs li", "COMP_CWORD": "2"})
    done = subprocess.run([PROGRAM], env=environ, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == "plain,list\n"


def test_a_reader_that_goes_away_is_no_error(database_url: str, conn: Connection) -> None:
    for _ in range(3):
        make_job(conn, payload={"x": "y" * 400_000})
    command = f"'{PROGRAM}' jobs list --json | head -c 10; echo ${{PIPESTATUS[0]}}"
    environ = environment({"AYB_JOBS_DATABASE_URL": database_url, "PYTHONUNBUFFERED": ""})
    done = subprocess.run(["bash", "-c", command], env=environ, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == f'{{"items":[{ExitCode.BROKEN_PIPE}\n'
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_told(database_url: str, conn: Connection) -> None:
    make_job(conn)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [PROGRAM, "jobs", "list"],
            env=environment({"AYB_JOBS_DATABASE_URL": database_url}),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=False,
        )
    assert (done.returncode, done.stderr) == (ExitCode.IO_ERROR, "ayb-jobs: input or output: No space left on device\n")


def test_ctrl_c_ends_a_command_with_no_more_than_a_new_line(database_url: str, conn: Connection) -> None:
    with closing(connect(database_url)) as blocker, blocker.transaction():
        blocker.execute("LOCK TABLE _ayb_jobs")
        process = subprocess.Popen(
            [PROGRAM, "jobs", "list"],
            env=environment({"AYB_JOBS_DATABASE_URL": database_url}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ayb-jobs-cli' AND wait_event_type = 'Lock'"
        )
        eventually(lambda: conn.execute(waiting).fetchone() == (1,), within_s=30)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == ("", "\n")
    assert process.returncode == ExitCode.INTERRUPTED


@pytest.mark.parametrize("columns", [200, 100, 80, 45, 20])
def test_a_table_fits_its_terminal_and_never_cuts_an_id(database_url: str, conn: Connection, columns: int) -> None:
    ids = [make_job(conn, "failed", type="send_invoices", last_error="x" * 300) for _ in range(2)]
    code, printed = on_terminal("jobs", "list", columns=columns, AYB_JOBS_DATABASE_URL=database_url)
    lines = COLOUR.sub("", printed).splitlines()
    assert code == 0
    assert all(len(line.rstrip()) <= max(columns, len(ids[0])) for line in lines)
    assert all(any(line.startswith(job_id) for line in lines) for job_id in ids)
    assert len(lines) == 3
    assert ("STATE" in lines[0]) == (columns >= 45)
    assert ("x…" in printed) == (columns >= 100)


def test_a_terminal_gets_colours_unless_it_wants_none(database_url: str, conn: Connection) -> None:
    job_id = make_job(conn, "failed")
    for command in (["jobs", "list"], ["jobs", "show", job_id], ["jobs", "stats"]):
        assert COLOUR.search(on_terminal(*command, columns=100, AYB_JOBS_DATABASE_URL=database_url)[1])
        plain = on_terminal(*command, columns=100, AYB_JOBS_DATABASE_URL=database_url, NO_COLOR="1")[1]
        assert not COLOUR.search(plain)
        assert "failed" in plain


def test_hostile_text_cannot_steer_a_terminal(database_url: str, conn: Connection) -> None:
    job_id = make_job(conn, "failed", type="\x1b[2J\x07", last_error="\x1b]0;title\x07\r\nnext\x9b2J")
    for command in (["jobs", "list"], ["jobs", "show", job_id]):
        printed = on_terminal(*command, columns=160, AYB_JOBS_DATABASE_URL=database_url, NO_COLOR="1")[1]
        assert not set("\x1b\x07\r\x9b") & set(printed)


def test_what_takes_long_says_what_it_waits_for(database_url: str) -> None:
    shown = threading.Event()

    def look(printed: str) -> None:
        if "asking the database" in printed:
            shown.set()

    with closing(connect(database_url)) as blocker, ThreadPoolExecutor() as threads:
        with blocker.transaction():
            blocker.execute("LOCK TABLE _ayb_jobs")
            command = threads.submit(
                on_terminal, "jobs", "stats", columns=80, seen=look, AYB_JOBS_DATABASE_URL=database_url
            )
            assert shown.wait(30)
        code, printed = command.result(30)
    assert code == 0
    assert "queued" in printed


def test_an_old_terminal_encoding_breaks_nothing(database_url: str, conn: Connection) -> None:
    job_id = make_job(conn, "failed", type="ü€", last_error="日本")
    environ = environment({"AYB_JOBS_DATABASE_URL": database_url, "PYTHONIOENCODING": "ascii"})
    for command in (["jobs", "list"], ["jobs", "show", job_id], ["jobs", "show", job_id, "--json"]):
        done = subprocess.run([PROGRAM, *command], env=environ, capture_output=True, timeout=30, check=False)
        assert (done.returncode, done.stderr) == (0, b"")


def test_it_runs_as_a_module_too(database_url: str) -> None:
    python = PROGRAM.with_name("python")
    done = subprocess.run(
        [python, "-m", "ayb_jobs", "jobs", "list", "--json"],
        env=environment({"AYB_JOBS_DATABASE_URL": database_url}),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == '{"items":[],"count":0}\n'


@pytest.mark.outer
def test_the_embedded_database_is_started_for_the_command(nowhere: Cli, tmp_path: Path) -> None:
    home = tmp_path / "home"
    environ = {"AYB_JOBS_DATABASE_DATA_DIR": str(home)}
    assert "applied 0001_jobs" in nowhere.ok("migrate", **environ)
    made = nowhere.ok("jobs", "enqueue", "a", **environ)
    assert made.split()[1] in nowhere.ok("jobs", "list", **environ)
    with EmbeddedPostgres.kept(home) as server, closing(connect(server.url())) as conn:
        assert conn.execute("SELECT count(*) FROM _ayb_jobs").fetchone() == (1,)
        assert made.split()[1] in nowhere.ok("jobs", "list", **environ)
        assert server.is_running()
        assert nowhere.ok("database-url", **environ) == f"{server.url()}\n"
    down = Cli(environ)("database-url")
    assert (down.code, down.out) == (ExitCode.UNAVAILABLE, "")
    assert "runs while a daemon does" in one_line(down)
    configured = one_line(nowhere("database-url", "--database-url", f"postgresql://a:{SECRET}@b/c"))
    assert "there is no embedded database here" in configured
    assert SECRET not in configured
