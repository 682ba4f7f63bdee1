"""What the checker reads of flow control: what was set, and which jobs belong together."""

from collections.abc import Sequence
from typing import NamedTuple


class Dependency(NamedTuple):
    """A job that was enqueued to wait for another, and the rule for that one's failure: `cancel`, `run` or `hold`."""

    child_id: str
    parent_id: str
    rule: str


class BatchLife(NamedTuple):
    """A batch: whether it was sealed, its members, and the callbacks that were enqueued: events with their jobs."""

    id: str
    is_sealed: bool
    members: Sequence[str]
    callbacks: Sequence[tuple[str, str]]


class JobLimit(NamedTuple):
    """A limit that held from before the first lease on: of some types, `max_running` run at once over all daemons.

    If there is an `interval_s`, starts are so far apart on average, but for a `burst`. Those with `key` in their names
    hold for the jobs of each key.
    """

    name: str
    types: frozenset[str]
    max_running: int | None = None
    interval_s: float | None = None
    burst: int = 1
    key_max_running: int | None = None
    key_interval_s: float | None = None
    key_burst: int = 1


class JobPause(NamedTuple):
    """A pause of some types, or of one `key` of theirs: when all had confirmed it, and when it was about to end."""

    types: frozenset[str]
    began: float
    ended: float
    key: str | None = None
