"""What keys do in `top`: each asks first, in the command line's words, then acts through the same operations."""

import threading
from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

from ayb_jobs.cli.backend.database_jobs import DatabaseJobs
from ayb_jobs.cli.backend.database_pauses import DatabasePauses
from ayb_jobs.cli.commands.jobs.changing import WORDS, change_counted, how_many, it_or_them, one_words
from ayb_jobs.cli.commands.top.lines import Failures, Line, Queue, Running, Target
from ayb_jobs.cli.confirming import unconfirmed
from ayb_jobs.cli.options import Options
from ayb_jobs.cli.output import decoded
from ayb_jobs.cli.pausing import PAUSED, RESUMED, filled_in
from ayb_jobs.cli.widths import cut
from ayb_jobs.errors import AybJobsError
from ayb_jobs.model.filters import Filter
from ayb_jobs.model.pauses import NewPause, PauseKind
from ayb_jobs.model.words import as_sentence
from ayb_jobs.storage.database import Connection, Timeouts, connect_to_primary
from ayb_jobs.storage.faults import worded_faults

TIMEOUTS = Timeouts(connect_s=3.0, statement_s=10.0)
LONGEST_NAME = 40


class Question(NamedTuple):
    """What is asked before anything is changed, and what a yes does: it returns what became of it."""

    words: str
    act: Callable[[Connection], str]


# What a key does first: it returns a question, or says why there is nothing to do.
Step = Callable[[Connection], Question | str]


def step_of(key: str, chosen: Target | None, options: Options) -> Step | None:
    """Return what a key asks for on the row that is chosen; None if nothing."""
    match key, chosen:
        case "p", Queue(name, is_paused):
            return lambda _: ask_resume(name) if is_paused else ask_pause(name)
        case "c", Running(job_id, job_type):
            return lambda _: ask_cancel(job_id, job_type, options)
        case "r", Failures(job_type, error):
            return lambda conn: ask_retry(conn, Filter(type=job_type, alike=error), options)
        case _:
            return None


def ask_pause(name: str) -> Question:
    """Ask whether a queue is to be paused."""

    def pause(conn: Connection) -> str:
        text = DatabasePauses(conn).pause(NewPause(kind=PauseKind.QUEUE, name=name))
        seen = decoded(text)
        missing = unconfirmed(seen["waitingFor"])
        return filled_in(PAUSED, PauseKind.QUEUE, seen) + (f"; {missing}" if missing else "")

    return Question(f"Pause the queue {cut(name, LONGEST_NAME)}?", pause)


def ask_resume(name: str) -> Question:
    """Ask whether a queue is to be resumed."""

    def resume(conn: Connection) -> str:
        return filled_in(RESUMED, PauseKind.QUEUE, decoded(DatabasePauses(conn).resume(PauseKind.QUEUE, name)))

    return Question(f"Resume the queue {cut(name, LONGEST_NAME)}?", resume)


def ask_cancel(job_id: str, job_type: str, options: Options) -> Question:
    """Ask whether a job that runs is to end canceled."""

    def cancel(conn: Connection) -> str:
        job = decoded(DatabaseJobs(conn, options).cancel_job(job_id, running=True, force=False))
        return one_words("cancel_running", job).format(**job)

    return Question(f"{cut(job_type, LONGEST_NAME)} {job_id} is running. Cancel it?", cancel)


def ask_retry(conn: Connection, wanted: Filter, options: Options) -> Question | str:
    """Count the failed jobs that are alike, and ask whether to queue them again."""
    count = decoded(DatabaseJobs(conn, options).change_jobs("retry", wanted, dry_run=True))["count"]
    before, after = WORDS["retry"]
    if not count:
        return f"{how_many(count)} {before}"

    def retry(conn: Connection) -> str:
        changed = decoded(change_counted(DatabaseJobs(conn, options), "retry", wanted, count))["count"]
        return f"{how_many(changed)} {after}"

    return Question(f"{how_many(count)} {before}. Retry {it_or_them(how_many(count))}?", retry)


class Acts:
    """Takes keys to the database, one thing at a time, on a thread of its own, so that keys are heard meanwhile.

    `line` is what to say: a question, what is under way, or what became of it; None if there is nothing.
    """

    def __init__(self, url: str, options: Options, told: Callable[[], None], changed: Callable[[], None]) -> None:
        self.line: Line | None = None
        self._url, self._options, self._told, self._changed = url, options, told, changed
        self._question: Question | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def hears(self, key: str, chosen: Target | None) -> bool:
        """Take a key: an answer to a question, or what begins one. Tell whether it was either."""
        if self._is_under_way():
            return key in "pcry"
        question, self._question = self._question, None
        if question is not None:
            self.line = None
            if key == "y":
                self._start("changing it …", lambda conn: self._do(conn, question))
            return key in {"y", "n", "esc", "enter"}
        self.line = None
        step = step_of(key, chosen, self._options)
        if step is not None:
            self._start("asking the database …", lambda conn: self._ask(conn, step))
        return step is not None

    def check(self) -> None:
        """Raise the error that ended the thread, if one did that is not the database's."""
        if self._error:
            raise self._error

    def _is_under_way(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _start(self, words: str, work: Callable[[Connection], None]) -> None:
        self.line = Line(words, "soft")
        self._thread = threading.Thread(target=self._run, args=(work,), name="top-acts", daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[Connection], None]) -> None:
        try:
            with (
                closing(connect_to_primary(self._url, name="ayb-jobs-top", timeouts=TIMEOUTS)) as conn,
                worded_faults(),
            ):
                work(conn)
        except AybJobsError as error:
            self.line = Line(as_sentence(str(error)), "bad")
        except BaseException as error:
            self._error = error
            raise SystemExit from error  # which ends a thread without a word; `check` has it
        finally:
            self._thread = None
            self._told()

    def _ask(self, conn: Connection, step: Step) -> None:
        found = step(conn)
        if isinstance(found, Question):
            self._question, self.line = found, Line(f"{found.words} [y/N]", "title")
        else:
            self.line = Line(as_sentence(found))

    def _do(self, conn: Connection, question: Question) -> None:
        self.line = Line(as_sentence(question.act(conn)), "good")
        self._changed()
