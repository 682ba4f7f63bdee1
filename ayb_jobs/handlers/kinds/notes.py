"""What a command tells of itself on descriptor 3: lines of JSON."""

import json
import time
from typing import Any

import psycopg

from ayb_jobs.errors import AybJobsError, InvalidInput, LeaseLost, Stopped
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.model.payload import encode_json

LONGEST_NOTE = 64 * 1024
# Of a flood of notes only the last ones are read.
MOST_AT_ONCE = 100
# Progress is written so often at most, however often a command tells it.
PROGRESS_EVERY_S = 1.0
MOST_RETRY_AFTER_S = 366 * 24 * 3600.0
KEYS = frozenset({"records", "message", "retry_after_s"})
STEP_KEYS = frozenset({"step", "result"})
# What the steps of one job hold together: they are one variable of the next attempt's environment.
MOST_OF_STEPS = 64 * 1024
RIGHT = 'write a line such as {"records": 10, "message": "half"} or {"retry_after_s": 60}'


class Notes:
    """Takes the notes of one command. A note that is wrong is told in the log, and changes nothing.

    Steps are taken only if the job type `keeps_steps`.
    """

    def __init__(self, ctx: JobContext, *, keeps_steps: bool = False) -> None:
        self._ctx = ctx
        self._keeps_steps = keeps_steps
        self._begun = bytearray()
        self._progress: dict[str, Any] | None = None
        self._told_at = 0.0
        self._faults = 0
        self.retry_after_s: float | None = None

    def add(self, written: bytes) -> None:
        """Take what was written; show the latest progress."""
        *whole, begun = written.split(b"\n")
        if whole:
            whole[0] = bytes(self._begun) + whole[0]
            self._begun.clear()
        for line in (*(line for line in whole[:-MOST_AT_ONCE] if b'"step"' in line), *whole[-MOST_AT_ONCE:]):
            self._note(line)
        self._begun += begun[: LONGEST_NOTE - len(self._begun)]
        if time.monotonic() - self._told_at >= PROGRESS_EVERY_S:
            self._show_progress()

    def end(self) -> None:
        """Take the last note, and show the last progress."""
        if self._begun:
            self._note(bytes(self._begun))
            self._begun.clear()
        if self._progress and "records" in self._progress:
            self._ctx.records_processed = self._progress["records"]

    def _note(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            note = checked(line)
            if "step" in note:
                self._keep_step(note["step"], note.get("result"))
                return
        except InvalidInput as error:
            self._faults += 1
            if self._faults == 1:
                self._ctx.log.warning("command.note_refused", problem=str(error), right=RIGHT)
            return
        if "retry_after_s" in note:
            self.retry_after_s = note.pop("retry_after_s")
        if note:
            self._progress = {**(self._progress or {}), **note}

    def _keep_step(self, name: str, result: Any) -> None:
        """Keep a step that the command has done; the first of a name stays."""
        if not self._keeps_steps:
            raise InvalidInput(f"step {name} is not kept; set steps = true for the job type")
        try:
            steps = self._ctx.steps
            if steps.find(name) is not None:
                return
            if len(steps.as_object()) + len(encode_json({name: result}, "step", MOST_OF_STEPS)) > MOST_OF_STEPS:
                raise InvalidInput(f"step {name} is too large: a command's steps have at most {MOST_OF_STEPS} bytes")
            self._ctx.keep_step(name, result)
        except (LeaseLost, Stopped):
            pass  # the context knows, and has the command stopped
        except (AybJobsError, psycopg.Error) as error:
            if isinstance(error, InvalidInput):
                raise
            self._ctx.log.warning("command.step_not_kept", step=name, problem=str(error))

    def _show_progress(self) -> None:
        if self._progress is None:
            return
        self._told_at = time.monotonic()
        try:
            self._ctx.progress(self._progress.get("records"), self._progress.get("message"))
        except (LeaseLost, Stopped):
            pass  # the context knows, and has the command stopped
        except InvalidInput as error:
            self._ctx.log.warning("command.note_refused", problem=str(error), right=RIGHT)
        except (AybJobsError, psycopg.Error) as error:
            self._ctx.log.warning("command.progress_not_shown", problem=str(error))


def checked(line: bytes) -> dict[str, Any]:
    """Return a note, or raise `InvalidInput` with what is wrong with it."""
    try:
        note = json.loads(line)
    except (ValueError, RecursionError):
        raise InvalidInput(f"{line[:100]!r} is not JSON") from None
    if isinstance(note, dict) and "step" in note and note.keys() <= STEP_KEYS:
        if not isinstance(note["step"], str):
            raise InvalidInput(f"step is {note['step']!r:.100}; give its name")
        return note
    if not isinstance(note, dict) or not note or not note.keys() <= KEYS:
        raise InvalidInput(
            f"{line[:100]!r} has none of the keys {', '.join(sorted(KEYS | STEP_KEYS))}, or others beside them"
        )
    records, message, retry_after_s = (note.get(key) for key in ("records", "message", "retry_after_s"))
    if records is not None and (type(records) is not int or not 0 <= records < 2**63):
        raise InvalidInput(f"records is {records!r:.100}; give a whole number, zero or more")
    if message is not None and not isinstance(message, str):
        raise InvalidInput(f"message is {message!r:.100}; give a text")
    is_number = isinstance(retry_after_s, int | float) and not isinstance(retry_after_s, bool)
    if retry_after_s is not None and not (is_number and 0 <= retry_after_s <= MOST_RETRY_AFTER_S):
        raise InvalidInput(f"retry_after_s is {retry_after_s!r:.100}; give a number of seconds, a year at most")
    return {key: value for key, value in note.items() if value is not None}
