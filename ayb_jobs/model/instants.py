"""Instants as people and programs read them."""

from datetime import datetime


def instant_text(value: datetime) -> str:
    """Return an instant in UTC as RFC 3339."""
    return value.isoformat().replace("+00:00", "Z")
