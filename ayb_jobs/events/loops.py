"""How the loops fare: what fails and recovers, which rows are set aside, what retention removes."""

from collections.abc import Sequence

from ayb_jobs.frozen import frozen


@frozen
class LoopFailed:
    """A loop's turn failed; it tries again after `retry_s`.

    Told when it begins to fail, when it fails in another way, and at growing intervals for as long as it goes on.
    `failures` turns in a row have failed, over `failing_s` seconds.
    """

    loop: str
    error: BaseException
    retry_s: float
    failures: int = 1
    failing_s: float = 0.0


@frozen
class LoopRecovered:
    """A loop that failed works again, after `failures` failed turns in a row."""

    loop: str
    failures: int


@frozen
class LoopErrorRepeated:
    """A failing loop failed again: counted, not told. It tries again after `retry_s`."""

    loop: str
    error: BaseException
    retry_s: float = 0.0


@frozen
class RowsSetAside:
    """A loop cannot handle these rows. The others go on, and the first of these is tried again after `retry_s`.

    `error` is what the database says of the first; it says the like of the others.
    """

    part: str
    table: str
    row_ids: Sequence[str]
    error: str
    retry_s: float


@frozen
class RowsTakenUp:
    """Rows that were set aside are not any more: they were handled after all, or are gone."""

    table: str
    row_ids: Sequence[str]


@frozen
class AsideFull:
    """A loop has set more rows aside than the `most` it remembers, and tries the oldest of them again sooner."""

    part: str
    table: str
    most: int


@frozen
class RowsPruned:
    """Retention removed rows of a table."""

    table: str
    rows: int


@frozen
class RowsUnprunable:
    """The database refuses to remove these rows, such as for a foreign key of the application's."""

    table: str
    rows: int
    error: BaseException


@frozen
class RowsPrunable:
    """Retention removed all that is old of a table, of which it could not the last time."""

    table: str


@frozen
class RetentionDeferred:
    """Retention will remove jobs that were there before the database was adopted, in `begins_in_s` seconds."""

    state: str
    kept_h: int
    begins_in_s: float


@frozen
class NotificationsUnavailable:
    """Notifications cannot reach this daemon, so that polling alone finds jobs."""

    reason: str


@frozen
class NotificationsAvailable:
    """Notifications reach this daemon again."""


@frozen
class AlertsUndelivered:
    """An address (its host alone) takes no alerts or pings, for the reason given. Told when that begins."""

    host: str
    error: str


@frozen
class AlertsDelivered:
    """An address that took no alerts or pings takes them again."""

    host: str


AboutLoops = (
    LoopFailed
    | LoopRecovered
    | LoopErrorRepeated
    | RowsSetAside
    | RowsTakenUp
    | AsideFull
    | RowsPruned
    | RowsUnprunable
    | RowsPrunable
    | RetentionDeferred
    | NotificationsUnavailable
    | NotificationsAvailable
    | AlertsUndelivered
    | AlertsDelivered
)
