"""Which jobs are meant: the filter that lists, counts and bulk changes share."""

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from ayb_jobs.errors import InvalidInput
from ayb_jobs.frozen import frozen
from ayb_jobs.model.checked import MAX_IDEMPOTENCY_KEY, MAX_NAME, checked_id, checked_text
from ayb_jobs.model.instants import instant_text

# The longest text that is looked for in an error.
MAX_ERROR = 1000
_LONGEST = {"type": MAX_NAME, "queue": MAX_NAME, "key": MAX_IDEMPOTENCY_KEY, "error": MAX_ERROR, "alike": MAX_ERROR}


@frozen
class Filter:
    """Which jobs: those that match everything that is given. Raises `InvalidInput` for a text that no job can have.

    `key` is the idempotency key, and `batch_id` the batch that a job is a member of. `since` and `until` bound when the
    job was created. `error` is a part of its last error, in any case of letters. `alike` is the first line of its last
    error, with `<n>` for each number and id: what failures are grouped by.
    """

    type: str | None = None
    queue: str | None = None
    key: str | None = None
    batch_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    error: str | None = None
    alike: str | None = None

    def __post_init__(self) -> None:
        for name, most in _LONGEST.items():
            checked_text(getattr(self, name) or "", "idempotency_key" if name == "key" else name, most)
        if self.since is not None and self.until is not None and self.until <= self.since:
            raise InvalidInput("until is not after since, so that no job can match", field="until")
        if self.batch_id is not None:
            checked_id(self.batch_id, "batch_id")

    def values(self) -> Mapping[str, Any]:
        """Return every field by its name, the parameters of a statement."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def said(self) -> Mapping[str, str]:
        """Return what is given, as JSON takes it."""
        given = {name: value for name, value in self.values().items() if value is not None}
        return {name: instant_text(value) if isinstance(value, datetime) else value for name, value in given.items()}


EVERY = Filter()
