"""Whether our tables, indexes, constraints, triggers and functions are as the migrations make them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ayb_jobs.checks.finding import Finding, warning
from ayb_jobs.model.words import count_words
from ayb_jobs.storage import drift, server
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.shape import Both, Thing, compare_shapes

# What differs and does not matter: whether a constraint was validated is asked by itself, and how an index is stored is
# the operator's affair.
UNASKED = re.compile(r" NOT VALID$| WITH \([^)]*\)")
# Tables that AYB made keep these definitions of AYB's, which do as well.
AYBS: Mapping[tuple[str, str], str] = {
    ("column", "_ayb_jobs.id"): "uuid NOT NULL DEFAULT gen_random_uuid()",
    ("column", "_ayb_job_schedules.id"): "uuid NOT NULL DEFAULT gen_random_uuid()",
    ("index", "idx_ayb_jobs_lease"): "CREATE INDEX idx_ayb_jobs_lease ON _ayb_jobs USING btree (state, lease_until) "
    "WHERE ((state)::text = 'running'::text)",
}


def broken_indexes(conn: Connection) -> Iterator[Finding]:
    """Find indexes of ours that the server does not use, or that are missing."""
    for name in server.list_invalid_indexes(conn):
        yield warning(
            "index.invalid",
            f"the index {name} is not valid",
            "The server keeps it up and does not use it: building it was cut off.",
            "ayb-jobs doctor --fix, which builds it anew while all go on",
            {"index": name},
        )
    missing = drift.list_missing_indexes(conn)
    if missing:
        yield warning(
            "index.missing",
            f"{count_words(len(missing), 'index')} of ours {'is' if len(missing) == 1 else 'are'} missing: {', '.join(missing)}",
            "Statements that rely on it read whole tables.",
            "ayb-jobs doctor --fix, which builds it anew while all go on",
            {"indexes": missing},
        )


def missing_columns(conn: Connection) -> Iterator[Finding]:
    """Find columns of ours that somebody removed or renamed."""
    missing = drift.list_missing_columns(conn)
    if missing:
        yield warning(
            "column.missing",
            f"{count_words(len(missing), 'column')} of ours {'is' if len(missing) == 1 else 'are'} missing: {', '.join(missing)}",
            "Statements that name it fail.",
            "Add it again, as the file in migrations/ that names it does",
            {"columns": missing},
        )


class Way(NamedTuple):
    """What is wrong with things of a kind, what that means, and what to do."""

    name: str
    word: str
    meaning: str
    remedy: str


CHANGED: Mapping[str, Way] = {
    "column": Way(
        "column.changed", "not as the migrations make it", "Statements rely on its type and its default.",
        "ALTER TABLE … ALTER COLUMN … back to what the evidence names (doctor --json)",
    ),
    "index": Way(
        "index.changed", "not as the migrations make it",
        "Statements that rely on it may read whole tables; what it is to keep unique may come twice.",
        "DROP INDEX CONCURRENTLY it, then ayb-jobs doctor --fix, which builds it anew",
    ),
    "constraint": Way(
        "constraint.changed", "not as the migrations make it", "Rows may hold what no daemon expects.",
        "Drop it and add it again as the evidence has it (doctor --json)",
    ),
    "trigger": Way(
        "trigger.changed", "not as the migrations make it", "What it keeps in step is not kept so.",
        "Drop it and create it again as the evidence has it (doctor --json)",
    ),
    "function": Way(
        "function.changed", "not as the migrations make it", "Whoever calls it gets something else than is documented.",
        "ayb-jobs doctor --fix, which puts it back",
    ),
}  # fmt: skip
MISSING: Mapping[str, Way] = {
    "constraint": Way(
        "constraint.missing", "missing", "Rows may hold what no daemon expects.",
        "Add it again as the evidence has it (doctor --json)",
    ),
    "trigger": Way(
        "trigger.missing", "missing", "What it keeps in step is not kept so.",
        "Create it again as the evidence has it (doctor --json)",
    ),
    "function": Way(
        "function.missing", "missing", "Who enqueues by SQL, or leases under a limit, fails.",
        "Create it again as the evidence has it (doctor --json), or all at once: ayb-jobs grant ROLE --enqueue",
    ),
}  # fmt: skip
OFF: Mapping[str, Way] = {
    "constraint": Way(
        "constraint.not_valid", "not valid", "Rows that were there before may break it.",
        "ayb-jobs doctor --fix, which checks the rows that are there while all go on",
    ),
    "trigger": Way(
        "trigger.off", "switched off", "What it keeps in step is not kept so.",
        "ayb-jobs doctor --fix, which switches it on",
    ),
}  # fmt: skip


def changed(conn: Connection) -> Iterator[Finding]:
    """Find what somebody changed, switched off or removed; columns and indexes that are missing are found before.

    What the migrations make is made anew beside it, in a transaction that is rolled back.
    """
    both = compare_shapes(conn)
    found: dict[Way, list[Thing]] = {}
    for key, made in both.made.items():
        if way := _way(made, both.found.get(key)):
            found.setdefault(way, []).append(made)
    for way, things in found.items():
        yield _finding(way, things, both)


def _way(made: Thing, found: Thing | None) -> Way | None:
    """Return what is wrong with a thing, if anything is."""
    if found is None:
        return MISSING.get(made.kind)
    if _words(found) not in {_words(made), AYBS.get((made.kind, made.name))}:
        return CHANGED[made.kind]
    return OFF.get(made.kind) if made.in_force and not found.in_force else None


def _words(thing: Thing) -> str:
    return UNASKED.sub("", thing.definition)


def _finding(way: Way, things: Sequence[Thing], both: Both) -> Finding:
    things = sorted(things, key=lambda thing: thing.name)
    kind, names = things[0].kind, [thing.name for thing in things]
    there = {name: both.found.get((kind, name)) for name in names}
    evidence = {
        "names": names,
        "made": {thing.name: thing.definition for thing in things},
        "found": {name: thing.definition for name, thing in there.items() if thing is not None},
        "on": {name: thing.on for name, thing in there.items() if thing is not None},
    }
    are = "is" if len(names) == 1 else "are"
    fact = f"{count_words(len(names), kind, 'indexes' if kind == 'index' else '')} of ours {are} {way.word}: {', '.join(names)}"
    return warning(way.name, fact, way.meaning, way.remedy, evidence)
