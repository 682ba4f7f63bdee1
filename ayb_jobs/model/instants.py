"""Instants as people and programs read them, and as PostgreSQL writes them."""

from datetime import UTC, datetime

from ayb_jobs.errors import InvalidInput


def instant_text(value: datetime) -> str:
    """Return an instant in UTC as RFC 3339."""
    return value.isoformat().replace("+00:00", "Z")


def in_utc(value: datetime, field: str) -> datetime:
    """Return an instant in UTC, so that every offset is stored; raises `InvalidInput` if its year is not there in UTC.

    PostgreSQL refuses offsets of sixteen hours and more, which Python and ISO 8601 know.
    """
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidInput(
            f"{field} is {value.isoformat()}; in UTC its year is not from 1 to 9999", field=field
        ) from None


def instant(text: str) -> datetime:
    """Return PostgreSQL's ISO text of a timestamptz in UTC, clamped to what `datetime` can hold.

    Raises ValueError for text that is no timestamptz in ISO style.
    """
    if text == "-infinity" or text.endswith("BC"):
        return datetime.min.replace(tzinfo=UTC)
    if text == "infinity" or text.find("-") > len("9999"):
        return datetime.max.replace(tzinfo=UTC)
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC) if text.startswith("9999") else datetime.min.replace(tzinfo=UTC)
