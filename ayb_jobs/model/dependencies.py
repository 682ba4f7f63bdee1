"""Jobs that wait for others: which jobs a new one depends on, and what a failed one means to it."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args
from uuid import UUID

from ayb_jobs.errors import InvalidInput
from ayb_jobs.frozen import frozen
from ayb_jobs.model.values import named

# What becomes of a job if one that it depends on failed or was canceled: it is canceled; it runs all the same; or it
# waits until the other one is retried and completes.
OnParentFailure = Literal["cancel", "run", "hold"]
RULES: Sequence[str] = get_args(OnParentFailure)
MOST_PARENTS = 10_000


class Edge(NamedTuple):
    """A child and one of its parents, by their ids."""

    child_id: str
    parent_id: str


@frozen
class Relative:
    """A parent or a child of a job. `state` is None if it is gone. `is_open`: the child still waits for the parent."""

    id: str
    state: str | None
    rule: str
    is_open: bool


@frozen
class Family:
    """The first parents and children of a job, those first that are waited for, and how many there are of each."""

    parents: Sequence[Relative] = ()
    children: Sequence[Relative] = ()
    parent_count: int = 0
    child_count: int = 0


@frozen
class Blocked:
    """What a blocked job waits for: a parent, and how many there are beside it. `parent` is None if none is left."""

    parent: Relative | None
    others: int

    @property
    def words(self) -> str:
        """Say what is waited for."""
        if self.parent is None:
            return "all jobs that it depends on have ended; it is about to be freed"
        if self.parent.state in {"failed", "canceled"}:
            told = f"it depends on job {self.parent.id}, which {'failed' if self.parent.state == 'failed' else 'was canceled'}"
            told += "; it waits until that is retried and completes" if self.parent.rule == "hold" else ""
        else:
            told = f"it depends on job {self.parent.id}, which is {self.parent.state or 'gone'}"
        return f"{told}, and on {self.others:,} more" if self.others else told

    @property
    def remedy(self) -> str | None:
        """The command that lets the job go on, if one is needed."""
        if self.parent is None or self.parent.rule != "hold" or self.parent.state != "failed":
            return None
        return f"ayb-jobs jobs retry {self.parent.id}"


def checked_parents(given: Any) -> tuple[str, ...]:
    """Return the ids of the jobs that a new one depends on; each is an id, or a thing that has one as `id`.

    Raises `InvalidInput`.
    """
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise InvalidInput(f"depends_on is {named(given)}; a list of ids of jobs is needed", field="depends_on")
    if len(given) > MOST_PARENTS:
        told = f"depends_on names {len(given)} jobs; at most {MOST_PARENTS} are allowed"
        raise InvalidInput(told, field="depends_on")
    ids = []
    for one in given:
        value = getattr(one, "id", one)
        try:
            ids.append(str(UUID(str(value))))
        except ValueError:
            raise InvalidInput(f"depends_on holds {value!r}, which is not a job's id", field="depends_on") from None
    return tuple(dict.fromkeys(ids))


def checked_rule(rule: Any) -> str:
    """Return a rule; raises `InvalidInput`."""
    if rule not in RULES:
        raise InvalidInput(f"on_parent_failure is {rule}; it is cancel, run or hold", field="on_parent_failure")
    return str(rule)
