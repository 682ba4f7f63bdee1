"""How the process collects garbage: tens of thousands of short-lived objects a second, beside a large program."""

import gc

# Python's own 700 has it search for cycles several times in each leased batch, though a job makes none. A search among
# these takes some ten milliseconds, once in 100,000 jobs.
NEW_OBJECTS = 100_000
# The daemon's imports leave 120,000 objects, of which next to none is garbage.
IMPORTED_OBJECTS = 250_000


def import_without_searches() -> None:
    """Search for no cycles while a program imports what it needs; an eighth of its start-up goes into that.

    Changes the whole process; for the first line of a program.
    """
    gc.set_threshold(IMPORTED_OBJECTS, *gc.get_threshold()[1:])


def collect_rarely() -> None:
    """Never again look at what exists by now, such as imported modules, and seldom at what is new.

    Changes the whole process; for its start-up, once everything is imported. Handlers that make cycles of large objects
    may call `gc.collect` themselves.
    """
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])
