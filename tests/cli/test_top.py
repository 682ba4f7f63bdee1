"""`ayb-jobs top`: its screens as pure text, and the command in a real terminal."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from psycopg.sql import SQL

from ayb_jobs.checks.finding import Finding, Severity
from ayb_jobs.checks.glance import Details, Glance, QueueView, QueueViews, glance
from ayb_jobs.checks.verdict import Figures, decide
from ayb_jobs.cli.commands.top.lines import Failures, Line, Queue, Running, Size, Target, painted
from ayb_jobs.cli.commands.top.live import moved
from ayb_jobs.cli.commands.top.looking import Looking, Reader
from ayb_jobs.cli.commands.top.screen import View, draw, whole
from ayb_jobs.cli.commands.top.tables import MOST_ROWS, bars
from ayb_jobs.cli.terminal import keys_in
from ayb_jobs.cli.widths import cell_width
from ayb_jobs.config import Retention
from ayb_jobs.model.daemons import DaemonRecord, SeenDaemon
from ayb_jobs.model.pauses import Pause, PauseKind
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.browsing import Counts
from ayb_jobs.storage.queue.failures import FailureGroup, GroupedFailures
from ayb_jobs.storage.queue.lateness import Pace
from ayb_jobs.storage.queue.minutes import Level, Minute
from ayb_jobs.storage.queue.queues import QueueState, RunningJob
from ayb_jobs.storage.schedules.coming import Coming
from ayb_jobs.storage.schedules.overdue import Overdue
from tests.cli.conftest import Cli
from tests.cli.processes import PROGRAM, environment
from tests.eventually import eventually
from tests.factories import make_job, make_schedule

AT = datetime(2026, 7, 29, 12, 0, 3, tzinfo=UTC)
TIMES = re.compile(r"\d\d:\d\d:\d\d|(\d+ (min|h|days) )?[\d.]+ (ms|s|min|h)\b")


def finding(name: str, words: str, severity: Severity = Severity.WARNING) -> Finding:
    return Finding(name=name, severity=severity, fact=words, meaning="It matters.", remedy=f"ayb-jobs mend {name}")


def a_pause(name: str) -> Pause:
    return Pause(kind=PauseKind.QUEUE, name=name, id=1, reason=None, paused_by="ada", paused_at=AT, until=None)


def a_glance(*findings: Finding, name: str = "mail", queues: int = 1) -> Glance:
    """Return how things stand in a queue of some size, with names that somebody chose."""
    level = Level(at=AT, waiting=212, running=3, oldest_wait_s=252)
    daemon = DaemonRecord(id="a", host="web1", pid=41, version="1", concurrency=16, queues=["default"], types=[name])
    states = [QueueState(f"{name}{number}", 212, False, 3, 252.0) for number in range(queues)]
    details = Details(
        counts=Counts(waiting=10_000, later=3, running=3, failed=7, canceled=0, completed=9, cut=False),
        minutes=[Minute(AT - timedelta(minutes=15 - n), 100 * n, n, 2, 0) for n in range(15)],
        queues=QueueViews([
            *(QueueView(state=state, daemons=1, slots=16, pause=None) for state in states),
            QueueView(state=QueueState(f"{name}p", 1, False, 0, 1.0), daemons=1, slots=16, pause=a_pause(name)),
        ], more=False),
        daemons=[
            SeenDaemon(
                daemon=daemon, started_at=AT, heartbeat_at=AT, drain_requested_at=drained_at, silent_s=1.5,
                running=["x", "y", "z"],
            )
            for drained_at in (None, AT)
        ],
        running=[RunningJob("01234567-0123-4123-8123-012345678901", name, "a", 31.0, None, None)],
        failures=GroupedFailures(
            groups=[
                FailureGroup(
                    type=name, error=f"{name} said <n>", jobs=7, first_at=AT, last_at=AT, example="x", buckets=[]
                )
            ],
            jobs=7, group_count=1, cut=False, last_at=AT, buckets=[],
        ),
        overdue=[
            Overdue(
                at=AT, schedule_id="s", name=name, reason="not_fired", since=AT, last_success_at=None, next_run_at=AT,
                expect_success_within_s=None, last_error=None,
            )
        ],
        coming=[Coming("nightly", name, AT + timedelta(minutes=3))],
    )  # fmt: skip
    figures = Figures(level=level, pace=Pace(ended=1204, any_job=True), daemons=1, slots=16)
    return Glance(at=AT, verdict=decide(findings, figures), details=details)


def texts(lines: Sequence[Line]) -> list[str]:
    return [line.text for line in lines]


def test_a_healthy_queue_fits_on_a_screen_of_80_columns() -> None:
    drawn = draw(a_glance(), Size(columns=80, rows=30), View())
    assert texts(drawn.lines) == [
        "All well: 1,204 jobs in the last minute, none waits longer than 4 min 12 s, 1",
        "daemon.",
        "",
        "Waiting 10,000+ (later 3) · running 3 of 16 · failed in the hour 7 · oldest wait",
        "4 min 12 s",
        "Last full minute: 1,400 completed, 14 failed, 2 tried again  ·▁▂▂▃▃▄▅▅▆▆▇▇██",
        "",
        "QUEUE  STATE   WAITING      OLDEST  RUNNING  SLOTS  DAEMONS",
        "mail0  late        212  4 min 12 s        3     16        1",
        "mailp  paused        1       1.0 s        0     16        1",
        "",
        "DAEMON   STATE      BUSY   HEARD OF     UP  SERVES",
        "web1 41  alive   3 of 16  1.5 s ago  1.5 s  default",
        "web1 41  drains  3 of 16  1.5 s ago  1.5 s  default",
        "",
        "RUNNING   FOR  JOB",
        "mail     31 s  01234567-0123-4123-8123-012345678901",
        "",
        "FAILED  JOBS      LAST  ERROR",
        "mail       7  0 ms ago  mail said <n>",
        "",
        "SCHEDULE     FIRES  WHAT",
        "mail       overdue  `mail` is due, and no scheduler has fired it.",
        "nightly   in 3 min  mail",
        *[""] * 5,
        "12:00:03 UTC · q quits · h holds still · j k choose",
    ]


@pytest.mark.parametrize("columns", [1, 20, 40, 80, 200])
@pytest.mark.parametrize("rows", [1, 3, 10, 24, 60])
@pytest.mark.parametrize("name", ["mail", "\x1b[31mred\n", "件名" * 60, "x" * 300])
def test_a_screen_of_any_size_is_filled_and_never_overflows(columns: int, rows: int, name: str) -> None:
    seen = a_glance(finding("jobs.late", f"{name} jobs wait"), finding("other", "y" * 300), name=name, queues=40)
    for fault in ("", f"cannot connect: {name}"):
        drawn = draw(
            seen,
            Size(columns=columns, rows=rows),
            View(first=7, told=Line(f"Pause the queue {name}? [y/N]")),
            fault=fault,
        )
        assert len(drawn.lines) == rows
        for line in drawn.lines:
            assert cell_width(line.text) <= columns
            assert line.text.isprintable()


def test_each_line_can_be_scrolled_to_and_no_further() -> None:
    seen, size = a_glance(queues=40), Size(columns=80, rows=12)
    everything = texts(whole(seen, 80))
    last = draw(seen, size, View(first=10_000))
    assert last.first == last.last_first
    assert texts(last.lines)[-2] == everything[-1]
    assert "below" not in last.lines[-1].text
    top = draw(seen, size, View(first=-5))
    assert top.first == 0
    assert f"{last.last_first} more lines below" in top.lines[-1].text


def test_on_a_small_screen_the_sentence_alone_stays_and_all_else_scrolls() -> None:
    seen, size = a_glance(finding("jobs.late", "z" * 100), queues=40), Size(columns=40, rows=10)
    everything = texts(whole(seen, 40))
    shown = [texts(draw(seen, size, View(first=first)).lines) for first in (0, 6)]
    assert [lines[:3] for lines in shown] == [everything[:3]] * 2
    assert [line for lines in shown for line in lines[3:-1]] == everything[3:15]


def test_a_long_table_ends_with_the_command_that_lists_the_rest() -> None:
    everything = texts(whole(a_glance(queues=40), 80))
    assert f"… {41 - MOST_ROWS} more: ayb-jobs queues list" in everything


def test_the_gravest_finding_speaks_and_each_has_its_remedy() -> None:
    grave = finding("daemon.none", "no daemon is alive", Severity.FAILING)
    lines = whole(a_glance(finding("jobs.late", "jobs wait"), grave), 80)
    assert lines[:2] == [Line("No daemon is alive.", "bad"), Line("Do: ayb-jobs mend daemon.none")]
    assert Line("! Jobs wait.", "warn") in lines
    assert Line("  Do: ayb-jobs mend jobs.late") in lines


def test_a_database_that_is_gone_is_told_in_place_of_the_sentence() -> None:
    lines = draw(a_glance(), Size(columns=80, rows=24), View(), fault="cannot connect to the database").lines
    assert lines[0] == Line("Cannot connect to the database. It is asked again and again.", "bad")
    assert lines[1].text.startswith("At 12:00:03 UTC it was: All well: 1,204 jobs")
    assert lines[1].style == "soft"


def test_without_colour_a_line_is_its_text() -> None:
    assert painted(Line("late", "warn"), colour=False) == "late"
    assert painted(Line("late", "warn"), colour=True) == "\x1b[33mlate\x1b[0m"
    assert painted(Line("late", "warn"), colour=False, is_chosen=True) == "\x1b[7mlate\x1b[0m"


@pytest.mark.parametrize(
    ("waited_s", "daemons", "pause", "word"),
    [
        (None, 1, None, "flows"),
        (60.0, 1, None, "flows"),
        (61.0, 1, None, "late"),
        (61.0, 0, None, "nobody serves it"),
        (61.0, 0, a_pause("q"), "paused"),
    ],
)
def test_a_queue_says_how_it_stands(waited_s: float | None, daemons: int, pause: Pause | None, word: str) -> None:
    state = QueueState("q", 1, False, 0, waited_s)
    assert QueueView(state=state, daemons=daemons, slots=daemons, pause=pause).word == word


def test_bars_stand_for_figures() -> None:
    assert bars([0, 1, 50, 100]) == "·▁▅█"
    assert bars([]) == ""


def test_keys_are_told_apart() -> None:
    assert keys_in(b"jk\x1b[A\x1bOBq") == ["j", "k", "k", "j", "q"]
    assert keys_in(b"\x1b[15~q") == []  # F5: none of its letters is a key
    assert keys_in(b"\x00\xff\x7f") == []
    assert (keys_in(b"\x1b"), keys_in(b"\r")) == (["esc"], ["enter"])


def walked(keys: str, size: Size, view: View | None = None) -> tuple[list[Target | None], View]:
    """Press keys, and return what was chosen after each, and what is looked at then."""
    seen, view = a_glance(), view or View()
    chosen: list[Target | None] = []
    for key in keys:
        view = moved(view, key, draw(seen, size, view))
        chosen.append(view.chosen)
    return chosen, view


JOB = "01234567-0123-4123-8123-012345678901"
ROWS = [Queue("mail0", False), Queue("mailp", True), Running(JOB, "mail"), Failures("mail", "mail said <n>")]


def test_rows_are_chosen_one_after_another_and_stay_on_the_screen() -> None:
    chosen, view = walked("jjjjjkkk", size := Size(columns=80, rows=14))
    assert chosen == [*ROWS, ROWS[3], *reversed(ROWS[:3])]
    assert "mail0" in "".join(texts(draw(a_glance(), size, view).lines))
    for keys in ("j", "jj", "jjj", "jjjj"):
        _, view = walked(keys, size)
        assert view.chosen in [line.target for line in draw(a_glance(), size, view).lines]
    assert walked("Gk", size)[0][-1] == ROWS[3]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("j", "p pauses mail0"),
        ("jj", "p resumes mailp"),
        ("jjj", "c cancels this mail"),
        ("jjjj", "r retries these mail"),
    ],
)
def test_the_last_line_names_the_key_that_acts_on_the_chosen_row(keys: str, words: str) -> None:
    size = Size(columns=80, rows=40)
    view = walked(keys, size)[1]
    assert draw(a_glance(), size, view).lines[-1].text == f"12:00:03 UTC · {words} · j k choose · q quits"


def a_sick_database(conn: Connection) -> None:
    for _ in range(2):
        make_job(conn, type="mail", run_at=SQL("now() - interval '5 minutes'"))
    make_job(conn, "running", type="report")
    make_job(conn, "failed", type="mail", last_error="SMTP said 7")
    make_schedule(conn, name="nightly", next_run_at=SQL("now() + interval '59 minutes'"))
    pause = "INSERT INTO _ayb_job_pauses (kind, name, paused_by) VALUES ('queue', 'default', 'ada')"
    conn.execute(pause)


def plain(text: str) -> list[str]:
    """Return a screen's lines without what differs each time: times, and the room that they take."""
    return [" ".join(TIMES.sub("#", line).split()) for line in text.rstrip().splitlines()]


SICK = [
    "No daemon is alive: it stopped, or has been silent for #.",
    "Do: ayb-jobs run",
    "",
    "Waiting 2 · running 1 of 0 · failed in the hour 1 · oldest wait #",
    "Last full minute: 0 completed, 0 failed, 0 tried again ···············",
    "",
    "QUEUE STATE WAITING OLDEST RUNNING SLOTS DAEMONS",
    "default paused 2 # 1 0 0",
    "",
    "RUNNING FOR JOB",
    "report # ID",
    "",
    "FAILED JOBS LAST ERROR",
    "mail 1 # ago SMTP said <n>",
    "",
    "SCHEDULE FIRES WHAT",
    "nightly in # test",
]


def without_ids(lines: list[str]) -> list[str]:
    return [re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", line) for line in lines]


def test_once_prints_all_of_it_without_a_terminal(database_cli: Cli, conn: Connection) -> None:
    a_sick_database(conn)
    assert without_ids(plain(database_cli.ok("top", "--once"))) == SICK


def test_without_a_terminal_it_says_what_would_do(database_cli: Cli) -> None:
    said = database_cli("top")
    assert (said.code, said.out) == (2, "")
    assert said.err == (
        "ayb-jobs: top needs a terminal for its input and output; print it once with: ayb-jobs top --once\n"
    )


def test_an_api_is_refused(api_cli: Cli) -> None:
    said = api_cli("top", "--once")
    assert said.code == 2
    assert "works on the database alone" in said.err


def test_a_database_that_is_unfit_has_a_sentence_alone(conn: Connection) -> None:
    conn.execute("DELETE FROM _ayb_jobs_migrations WHERE version > 1")
    seen = glance(conn, Retention())
    assert seen.details is None
    assert draw(seen, Size(columns=80, rows=24), View()).lines[0].text.startswith("The schema is version 1, and")


def test_an_answer_that_does_not_come_is_missed_aloud(conn: Connection, database_url: str) -> None:
    reader = Reader(database_url, Retention())
    with closing(Looking(reader, reader.read(), 0.1, lambda: None)) as looking:
        with conn.transaction():
            conn.execute("LOCK TABLE _ayb_jobs IN ACCESS EXCLUSIVE MODE")
            eventually(lambda: looking.fault.startswith("the database has not answered for 2"))
        eventually(lambda: not looking.fault)
        looking.check()


def test_rates_are_of_full_minutes_and_only_what_will_fire_is_coming(conn: Connection) -> None:
    for name, due, enabled in (("second", 2, True), ("first", 1, True), ("off", 1, False), ("due", -1, True)):
        make_schedule(conn, name=name, enabled=enabled, next_run_at=SQL(f"now() + interval '{due} hours'"))
    with conn.transaction():  # the clock stands still in it
        conn.execute(
            "INSERT INTO _ayb_job_minutes (at, job_type, completed, failed, retried, records) "
            "SELECT date_trunc('minute', now()) - ago * interval '1 minute', type, 10 + ago, 1, 0, 0 "
            "FROM generate_series(0, 20) AS ago, unnest(ARRAY['a', 'b']) AS type"
        )
        details = glance(conn, Retention()).details
    assert details is not None
    assert [minute.completed for minute in details.minutes] == [2 * (10 + ago) for ago in range(15, 0, -1)]
    assert [each.name for each in details.coming] == ["first", "second"]


class Pane:
    """A shell in a terminal of tmux's."""

    def __init__(self, socket: str, folder: Path, environ: Mapping[str, str]) -> None:
        self._tmux = ["tmux", "-u", "-S", socket, "-f", "/dev/null"]
        self._env = environment({"LC_ALL": "C.UTF-8", "PS1": "$ ", "TERM": "xterm-256color", **environ})
        self._env.pop("TMUX", None)
        self.folder = folder

    def tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._tmux, *arguments], env=self._env, capture_output=True, text=True, check=True, timeout=20
        )
        return done.stdout

    def press(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def screen(self, *options: str) -> str:
        return self.tmux("capture-pane", "-p", *options)

    def line(self, number: int) -> str:
        """Return a line of the screen as `plain` does, an empty one if there is none."""
        lines = plain(self.screen())
        return lines[number] if number < len(lines) else ""

    def run(self, command: str) -> None:
        """Run a command, with the terminal's modes before it and after it in files."""
        before, after = self.folder / "before", self.folder / "after"
        after.unlink(missing_ok=True)
        self.press("-l", f"clear; stty -g > {before}; {command}; echo ended $?; stty -g > {after}")
        self.press("Enter")

    def modes_are_as_before(self) -> bool:
        before, after = self.folder / "before", self.folder / "after"
        return after.exists() and bool(after.read_text()) and before.read_text() == after.read_text()


@pytest.fixture
def pane(tmp_path: Path, database_url: str) -> Iterator[Pane]:
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed: apt-get install tmux")
    with TemporaryDirectory() as sockets:  # whose name is short enough for a socket
        pane = Pane(f"{sockets}/tmux", tmp_path, {"AYB_JOBS_DATABASE_URL": database_url})
        pane.tmux("new-session", "-d", "-x", "80", "-y", "24", "sh")
        try:
            yield pane
        finally:
            pane.tmux("kill-server")


def let_in(conn: Connection, *, let: bool) -> None:
    """Have the database take connections, or end those of `top` and take no more."""
    conn.execute("UPDATE pg_database SET datallowconn = %s WHERE datname = current_database()", (let,))
    conn.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'ayb-jobs-top' AND datname = current_database()"
    )


def test_in_a_terminal_it_lives_until_q(pane: Pane, conn: Connection) -> None:
    a_sick_database(conn)
    pane.run(f"{PROGRAM} top --every 0.5")
    eventually(lambda: without_ids(plain(pane.screen()))[: len(SICK)] == SICK)
    assert pane.line(23) == "# UTC · q quits · h holds still · j k choose"
    assert "\x1b[31mNo daemon" in pane.screen("-e")
    make_job(conn)
    eventually(lambda: "Waiting 3 " in pane.screen())
    pane.tmux("resize-window", "-x", "60", "-y", "12")
    eventually(lambda: re.match(r"# UTC · \d+ more lines below · q quits · h", pane.line(11)))
    assert len(pane.screen().splitlines()) == 12
    assert max(map(len, pane.screen().splitlines())) <= 60
    pane.press("G")
    eventually(lambda: pane.line(10) == "nightly in # test")
    pane.press("b", "h")
    eventually(lambda: pane.line(11).startswith("HELD STILL, # UTC · "))
    pane.press("h")
    let_in(conn, let=False)
    eventually(lambda: "It is asked again" in " ".join(pane.screen().split()))
    let_in(conn, let=True)
    eventually(lambda: pane.screen().startswith("No daemon is alive"))
    pane.press("q")
    eventually(lambda: pane.line(0) == "ended 0")
    eventually(pane.modes_are_as_before)


def test_in_a_terminal_it_may_be_stopped_continued_and_terminated(pane: Pane) -> None:
    pane.run(f"NO_COLOR=1 {PROGRAM} top")
    eventually(lambda: pane.screen().startswith("No daemon is alive"))
    assert "\x1b[3" not in pane.screen("-e")
    pane.press("C-z")
    eventually(lambda: "Stopped" in pane.screen())
    pane.press("-l", "fg")
    pane.press("Enter")
    eventually(lambda: pane.screen().startswith("No daemon is alive"))
    shell = pane.tmux("display-message", "-p", "#{pane_pid}").strip()
    (program,) = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
    os.kill(int(program), signal.SIGTERM)
    eventually(lambda: "No daemon" not in pane.screen())
    pane.press("-l", f"echo ended $?; stty -g > {pane.folder / 'after'}")
    pane.press("Enter")
    eventually(lambda: "ended 130" in pane.screen())
    eventually(pane.modes_are_as_before)


def deeds(conn: Connection) -> list[tuple[str, str]]:
    """Return what was done, and whether the command line is named as who did it."""
    rows = conn.execute("SELECT action, left(actor, 13) FROM _ayb_job_audit ORDER BY id").fetchall()
    return [(action, actor) for action, actor in rows]


def last_line(pane: Pane) -> str:
    return " ".join(pane.screen().split("\n")[23].split())


def test_in_a_terminal_keys_pause_cancel_and_retry_after_a_question(pane: Pane, conn: Connection) -> None:
    a_sick_database(conn)
    conn.execute("DELETE FROM _ayb_job_pauses")
    (job,) = conn.execute("SELECT id::text FROM _ayb_jobs WHERE state = 'running'").fetchone() or ("",)
    make_job(conn, "failed", type="mail", last_error="SMTP said 8")
    make_job(conn, "failed", type="mail", last_error="another")
    pane.run(f"NO_COLOR=1 {PROGRAM} top --every 0.5")
    eventually(lambda: "q quits" in last_line(pane))

    pane.press("j")
    eventually(lambda: "p pauses default" in last_line(pane))
    assert "\x1b[7mdefault" in pane.screen("-e")
    pane.press("p")
    eventually(lambda: last_line(pane) == "Pause the queue default? [y/N]")
    pane.press("n")
    eventually(lambda: "p pauses default" in last_line(pane))
    assert deeds(conn) == []
    pane.press("p")
    eventually(lambda: "[y/N]" in last_line(pane))
    pane.press("y")
    eventually(lambda: last_line(pane) == "Queue default is paused; 1 of its jobs run.")
    eventually(lambda: "default paused" in " ".join(pane.screen().split()))
    pane.press("p")
    eventually(lambda: last_line(pane) == "Resume the queue default? [y/N]")
    pane.press("y")
    eventually(lambda: last_line(pane) == "Queue default is resumed; 2 jobs are due.")

    pane.press("j", "c")
    eventually(lambda: f"report {job} is running. Cancel it? [y/N]" in " ".join(pane.screen().split()))
    pane.press("y")
    eventually(lambda: f"{job} is to end canceled" in " ".join(pane.screen().split()).lower())

    pane.press("j")
    eventually(lambda: "r retries these mail" in last_line(pane))
    pane.press("r")
    eventually(lambda: last_line(pane) == "2 jobs are failed. Retry them? [y/N]")
    pane.press("Escape")
    eventually(lambda: "r retries these mail" in last_line(pane))
    pane.press("r")
    eventually(lambda: last_line(pane) == "2 jobs are failed. Retry them? [y/N]")
    pane.press("y")
    eventually(lambda: last_line(pane) == "2 jobs are queued again.")
    assert deeds(conn) == [
        (action, "command line ") for action in ("queue.pause", "queue.resume", "job.cancel", "jobs.retry")
    ]
    left = conn.execute("SELECT last_error FROM _ayb_jobs WHERE state = 'failed'").fetchall()
    assert left == [("another",)]


def test_in_a_terminal_a_refusal_is_told_and_changes_nothing(pane: Pane, conn: Connection) -> None:
    a_sick_database(conn)
    conn.execute("DELETE FROM _ayb_job_pauses")
    (job,) = conn.execute("SELECT id::text FROM _ayb_jobs WHERE state = 'running'").fetchone() or ("",)
    pane.run(f"{PROGRAM} top --every 0.5")
    eventually(lambda: "q quits" in last_line(pane))
    pane.press("j", "j", "h", "c")
    eventually(lambda: "Cancel it? [y/N]" in " ".join(pane.screen().split()))
    conn.execute(
        "UPDATE _ayb_jobs SET state = 'completed', completed_at = now(), lease_id = NULL, lease_until = NULL, "
        "execution_id = NULL WHERE id = %s",
        (job,),
    )
    pane.press("y")
    eventually(lambda: "is completed; only queued and running jobs can be" in " ".join(pane.screen().split()))
    pane.press("k", "p")
    eventually(lambda: "Pause the queue default? [y/N]" in pane.screen())
    let_in(conn, let=False)
    pane.press("y")
    eventually(lambda: "not currently accepting connections" in " ".join(pane.screen().split()))
    let_in(conn, let=True)
    assert deeds(conn) == []
    pane.press("q")
    eventually(lambda: pane.line(0) == "ended 0")
    eventually(pane.modes_are_as_before)
