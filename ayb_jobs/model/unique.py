"""Unique jobs: of those with one key at most one waits or runs, and what a further enqueue leads to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, get_args

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.checked import check_span
from ayb_jobs.model.values import named

Scope = Literal["unfinished", "waiting"]
OnConflict = Literal["return", "reject", "replace", "debounce"]
SCOPES: Sequence[str] = get_args(Scope)
ON_CONFLICT: Sequence[str] = get_args(OnConflict)
# How long a job holds its key, for people.
UNIQUE_WORDS: Mapping[str, str] = {
    "unfinished": "the only one of its key until it has ended",
    "waiting": "the only one of its key that waits",
}
MAX_UNIQUE_KEY = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Unique:
    """What makes a job unique among those of its type: a `key`, or the values of the payload's fields `by`.

    `scope`: a job holds its key until it has ended ("unfinished"), or only while it waits ("waiting"), so that one runs
    while the next waits. `on_conflict` says what an enqueue does whose key is held: answer with the holder ("return"),
    raise `Conflict` ("reject"), or put its values in place of the waiting holder's ("replace"). "debounce" replaces
    too, and has the job wait for its `delay` anew, at most `max_wait` after the first call. The latter two need the
    scope "waiting", and have it if none is given. Raises `InvalidInput`.
    """

    key: str | None = None
    by: Sequence[str] = ()
    scope: Scope | None = None
    on_conflict: OnConflict = "return"
    max_wait: timedelta | None = None

    def __post_init__(self) -> None:
        _check_key(self.key, self.by)
        if self.scope is not None and self.scope not in SCOPES:
            raise InvalidInput(f"unique_scope is {self.scope}; it is unfinished or waiting", field="unique_scope")
        if self.on_conflict not in ON_CONFLICT:
            told = f"on_conflict is {self.on_conflict}; it is return, reject, replace or debounce"
            raise InvalidInput(told, field="on_conflict")
        if self.replaces and self.scope == "unfinished":
            told = f"on_conflict {self.on_conflict} needs the scope waiting; a job that runs cannot be replaced"
            raise InvalidInput(told, field="unique_scope")
        if self.max_wait is not None and self.on_conflict != "debounce":
            raise InvalidInput("max_wait goes with on_conflict debounce alone", field="max_wait")
        if self.max_wait is not None and not isinstance(self.max_wait, timedelta):
            raise InvalidInput(f"max_wait is {named(self.max_wait)}; a timedelta is needed", field="max_wait")
        if self.max_wait is not None:
            check_span(self.max_wait, "max_wait")

    @property
    def replaces(self) -> bool:
        """Whether a waiting holder gets the new job's values."""
        return self.on_conflict in {"replace", "debounce"}

    @property
    def scope_or_default(self) -> Scope:
        """The scope: as given, or as what is done on a conflict wants it."""
        return self.scope or ("waiting" if self.replaces else "unfinished")

    def check_times(self, delay: timedelta | None) -> None:
        """Raise `InvalidInput` if a job that is due after `delay` cannot be debounced so."""
        if self.on_conflict == "debounce" and delay is None:
            raise InvalidInput("debounce needs a delay: how long to wait after the last call", field="delay")
        if self.max_wait is not None and delay is not None and self.max_wait < delay:
            raise InvalidInput("max_wait is shorter than the delay", field="max_wait")


def _check_key(key: object, by: object) -> None:
    """Raise `InvalidInput` unless one of the two says what is unique."""
    if key is not None and by:
        raise InvalidInput("give unique_key or unique_by, not both", field="unique_key")
    if by:
        if isinstance(by, str) or not isinstance(by, Sequence) or not all(isinstance(one, str) for one in by):
            raise InvalidInput("unique_by is not a list of names of the payload's fields", field="unique_by")
        for one in by:
            _check_text(one, "unique_by")
        return
    if key is None:
        raise InvalidInput("unique_by names no field of the payload", field="unique_by")
    if not isinstance(key, str):
        raise InvalidInput(f"unique_key is {named(key)}; a text is needed", field="unique_key")
    if not key.strip():
        raise InvalidInput("unique_key is empty; it is required", field="unique_key")
    _check_text(key, "unique_key")


def _check_text(text: str, field: str) -> None:
    if len(text) > MAX_UNIQUE_KEY:
        told = f"{field} has {len(text)} characters; at most {MAX_UNIQUE_KEY} are allowed"
        raise InvalidInput(told, field=field)
    try:
        storable = b"\x00" not in text.encode()
    except UnicodeEncodeError:
        storable = False
    if not storable:
        raise InvalidInput(f"{field} holds a character that PostgreSQL cannot store", field=field)


def unique_of(given: Mapping[str, Any]) -> Unique | None:
    """Return what a door was told by the names `unique_key`, `unique_by` and so on; None if it was told none of them.

    What is None was not given. Raises `InvalidInput`.
    """
    said = {name: value for name, value in given.items() if value is not None}
    if not said:
        return None
    if not said.keys() & {"unique_key", "unique_by"}:
        told = "unique_scope, on_conflict and max_wait go with unique_key or unique_by"
        raise InvalidInput(told, field="unique_key")
    names = {"unique_key": "key", "unique_by": "by", "unique_scope": "scope"}
    return Unique(**{names.get(name, name): value for name, value in said.items()})
