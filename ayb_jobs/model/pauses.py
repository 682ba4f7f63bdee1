"""Pauses: of a queue or of a job type, whose jobs nobody starts meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.checked import checked_name, checked_text

MAX_REASON = 1000


class PauseKind(StrEnum):
    """What can be paused."""

    QUEUE = "queue"
    TYPE = "type"


@dataclass(frozen=True, slots=True, kw_only=True)
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
        what = "its queue" if self.kind is PauseKind.QUEUE else "its type"
        return f"{what} {self.name} is paused{until}, by {self.paused_by} at {self.paused_at:%F %T %Z}{reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPause:
    """A pause that is asked for. Raises `InvalidInput` for values of no use."""

    kind: PauseKind
    name: str
    reason: str | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        checked_name(self.name, self.kind)
        checked_text(self.reason or "", "reason", MAX_REASON)
        if self.until is not None and self.until.tzinfo is None:
            raise InvalidInput("until has no time zone; add one, such as +00:00", field="until")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pausable:
    """A queue or a job type as an operator sees it.

    `due` counts the jobs that wait and are due, of a type among the first 10,000 alone; `running` those that run.
    `daemons` live and serve it. `pause` is None if it is not paused; `waiting_for` names the live daemons that have not
    confirmed it yet, and may still start what they hold.
    """

    kind: PauseKind
    name: str
    due: int
    running: int
    daemons: int
    pause: Pause | None
    waiting_for: Sequence[str]
