"""What the database refuses, as live daemons tell of it."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from ayb_jobs.model.daemons import ENDINGS, JOBS, OLD_ROWS
from ayb_jobs.model.words import count_words

# What the server's system says if a disk is full, in the words of its own.
NO_ROOM = "No space left on device"
DISK_FULL = "a disk of the database is full"
MAKE_ROOM = "Make room on the disk of the database; daemons go on by themselves."
# What the database refuses, by what a daemon's row tells of.
WORDS = {
    ENDINGS: "to store how {} ended",
    OLD_ROWS: "to remove what is old of {}",
    "_ayb_job_executions": "to log attempts of {}",
}
NOUNS = {
    ENDINGS: ("job", "jobs"),
    OLD_ROWS: ("table", "tables"),
    "_ayb_job_executions": ("job", "jobs"),
    JOBS: ("job", "jobs"),
    "_ayb_job_schedules": ("schedule", "schedules"),
    "_ayb_job_batches": ("batch", "batches"),
    "_ayb_job_workers": ("daemon's row", "daemons' rows"),
    "_ayb_job_alert_deliveries": ("alert's delivery", "alerts' deliveries"),
    "_ayb_job_minutes": ("type's figures", "types' figures"),
}


class EndedJob(NamedTuple):
    """A job that counts as running although its handler has ended, since the database refuses to store how."""

    id: str
    type: str
    queue: str
    worker_id: str | None
    limited_by: str | None
    limited_key: str | None


class Refusals(NamedTuple):
    """The rows that live daemons have set aside, by table and id with the errors, and which jobs `ended` of them.

    Of the tables that are `cut` a daemon has set more rows aside than it names.
    """

    tables: Mapping[str, Mapping[str, str]] = {}
    cut: AbstractSet[str] = frozenset()
    ended: Sequence[EndedJob] = ()

    @property
    def no_room(self) -> bool:
        """Whether a disk of the database is full."""
        return any(NO_ROOM in error for rows in self.tables.values() for error in rows.values())

    @property
    def first_error(self) -> str:
        """What the database says: of an ending, if it refuses any."""
        return next(iter((self.tables.get(ENDINGS) or next(iter(self.tables.values()))).values()))

    @property
    def words(self) -> str:
        """What is refused, as `to store how 2 jobs ended, and to change 1 schedule`."""
        ordered = sorted(self.tables, key=lambda table: table not in WORDS)
        return ", and ".join(WORDS.get(table, "to change {}").format(self.count_of(table)) for table in ordered)

    def count_of(self, table: str) -> str:
        """Say how many rows of a table are refused: at least so many, if daemons do not name all of them."""
        return count_words(len(self.tables[table]), *NOUNS.get(table, ("row", "rows")), cut=table in self.cut)


NOTHING_REFUSED = Refusals()
