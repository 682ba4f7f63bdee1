"""What people and programs change by hand: as it is told (`ActionTaken`), and as the audit trail keeps it (`Deed`)."""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType

from ayb_jobs.frozen import frozen


@frozen
class ActionTaken:
    """Somebody changed something through a door of ours.

    `action` is such as `job.retry`. `target` is the id or the name of what was changed, None if these are `count` jobs.
    `enqueued` counts by type the jobs that the action made.
    """

    actor: str
    action: str
    target: str | None
    count: int = 1
    enqueued: Mapping[str, int] = MappingProxyType({})


@frozen
class Deed:
    """One row of the audit trail. `before` and `after` are JSON as stored, None if there was nothing."""

    id: int
    at: datetime
    actor: str
    action: str
    target: str | None
    before_text: str | None
    after_text: str | None
