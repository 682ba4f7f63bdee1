"""Names, texts and ids as the database takes them; whatever it would refuse raises `InvalidInput`."""

import uuid
from datetime import timedelta

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.values import named

MAX_NAME = 100
LONGEST_SPAN = timedelta(days=36525)
MAX_IDEMPOTENCY_KEY = 255
MAX_LIMIT_KEY = 200
# What a deed is about: an id, a name, or `LIMIT/KEY`.
MAX_TARGET = MAX_NAME + 1 + MAX_LIMIT_KEY


def checked_name(value: str, field_name: str) -> str:
    """Return a name that the database takes: 1 to 100 characters, no NUL, no lone surrogate."""
    if not isinstance(value, str):
        raise InvalidInput(f"{field_name} is {named(value)}; a text is needed", field=field_name)
    if not value or not value.strip():
        raise InvalidInput(f"{field_name} is empty; it is required", field=field_name)
    return checked_text(value, field_name, MAX_NAME)


def checked_text(value: str, field_name: str, most: int) -> str:
    """Return a text that the database takes, or raise `InvalidInput` saying what is wrong with it."""
    if not isinstance(value, str):
        raise InvalidInput(f"{field_name} is {named(value)}; a text is needed", field=field_name)
    if len(value) > most:
        raise InvalidInput(f"{field_name} has {len(value)} characters; at most {most} are allowed", field=field_name)
    try:
        storable = b"\x00" not in value.encode()
    except UnicodeEncodeError:
        storable = False
    if not storable:
        raise InvalidInput(f"{field_name} holds a character that PostgreSQL cannot store", field=field_name)
    return value


def checked_id(value: str, field_name: str = "id") -> str:
    """Return a UUID as PostgreSQL writes it, or raise `InvalidInput`."""
    try:
        return str(uuid.UUID(value))
    except ValueError:
        raise InvalidInput(f"{field_name} {value!r} is not a UUID", field=field_name) from None


def check_span(span: timedelta, field: str) -> None:
    """Raise `InvalidInput` if a time from now may be none that the database can store."""
    if not -LONGEST_SPAN <= span <= LONGEST_SPAN:
        raise InvalidInput(f"{field} is more than 100 years", field=field)
