"""How the process collects garbage: tens of thousands of short-lived objects a second, beside a large program."""

import gc

# Python's own 700 has it search for cycles several times in each leased batch, though a job makes none. A search among
# these takes some ten milliseconds, once in 100,000 jobs.
NEW_OBJECTS = 100_000


def collect_rarely() -> None:
    """Never again look at what exists by now, such as imported modules, and seldom at what is new.

    Changes the whole process; for its start-up, once everything is imported. Handlers that make cycles of large objects
    may call `gc.collect` themselves.
    """
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])
