"""Instants as people and programs read them, and as PostgreSQL writes them."""

from datetime import UTC, datetime


def instant_text(value: datetime) -> str:
    """Return an instant in UTC as RFC 3339."""
    return value.isoformat().replace("+00:00", "Z")


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
