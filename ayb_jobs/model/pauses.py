"""Pauses: of a queue, a job type or a key of a limit, whose jobs nobody starts meanwhile."""

import shlex
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from ayb_jobs.errors import InvalidInput
from ayb_jobs.frozen import frozen
from ayb_jobs.model.checked import MAX_LIMIT_KEY, MAX_NAME, checked_name, checked_text

MAX_REASON = 1000


class PauseKind(StrEnum):
    """What can be paused."""

    QUEUE = "queue"
    TYPE = "type"
    KEY = "key"


def key_name(limit: str | None, key: str | None) -> str | None:
    """Return the name under which the key of a job that is under a limit is paused; None if it is under none."""
    return None if limit is None else f"{limit}/{key or ''}"


def pauses_of(queue: str, type: str, limit: str | None, key: str | None) -> set[tuple[PauseKind, str]]:
    """Return what, if it is paused, keeps a job from starting."""
    its = {(PauseKind.QUEUE, queue), (PauseKind.TYPE, type)}
    name = key_name(limit, key)
    return its if name is None else {*its, (PauseKind.KEY, name)}


def checked_pausable(kind: PauseKind, name: str) -> str:
    """Return the name of what can be paused, or raise `InvalidInput` saying what is wrong with it."""
    if kind is not PauseKind.KEY:
        return checked_name(name, kind)
    limit, slash, _ = checked_text(name, kind, MAX_NAME + 1 + MAX_LIMIT_KEY).partition("/")
    if not limit or not slash:
        raise InvalidInput(f"key is {name!r}; give LIMIT/KEY, such as api/tenant-7", field=kind)
    return name


def resume_command(kind: str, name: str) -> str:
    """Return what ends a pause, as one types it into a shell, in which the name can do nothing of its own."""
    return f"ayb-jobs {kind}s resume {shlex.quote(name)}"


@frozen
class Pause:
    """Who paused what, when, why, and until when; None if until it is resumed."""

    kind: PauseKind
    name: str
    id: int
    reason: str | None
    paused_by: str
    paused_at: datetime
    until: datetime | None

    @property
    def words(self) -> str:
        """Say what is paused, as the end of a sentence."""
        until = f" until {self.until:%F %T %Z}" if self.until else ""
        reason = f": {self.reason}" if self.reason else ""
        return f"its {self.kind} {self.name} is paused{until}, by {self.paused_by} at {self.paused_at:%F %T %Z}{reason}"


@frozen
class NewPause:
    """A pause that is asked for. Raises `InvalidInput` for values of no use."""

    kind: PauseKind
    name: str
    reason: str | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        checked_pausable(self.kind, self.name)
        checked_text(self.reason or "", "reason", MAX_REASON)
        if self.until is not None and self.until.tzinfo is None:
            raise InvalidInput("until has no time zone; add one, such as +00:00", field="until")


@frozen
class Pausable:
    """A queue, a job type or a key of a limit as an operator sees it.

    `due` counts the jobs that wait and are due, of a type among the first 10,000 alone; `running` those that run. If it
    is `cut`, not all due jobs were looked at: at least so many are.
    `daemons` live and serve it: of a key, those that know a type of its limit. `pause` is None if it is not paused;
    `waiting_for` names the live daemons that have not confirmed it yet, and may still start what they hold.
    """

    kind: PauseKind
    name: str
    due: int
    running: int
    daemons: int
    pause: Pause | None
    waiting_for: Sequence[str]
    cut: bool = False
