"""What loops set aside, as their events tell it."""

from collections.abc import Iterable

from ayb_jobs.events import RowsSetAside


def set_aside(told: Iterable[object]) -> list[str]:
    """Return the ids of the rows that were told to be set aside, in the order of the telling."""
    return [row_id for event in told if isinstance(event, RowsSetAside) for row_id in event.row_ids]
