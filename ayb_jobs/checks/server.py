"""Checks of the server, of our tables, of clocks and zones, and of who holds us up."""

import time
from collections.abc import Iterator, Mapping
from datetime import datetime

from ayb_jobs.checks.finding import Finding, warning
from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.schedules.zones import find_zone, utc_offset
from ayb_jobs.model.words import quoted, span_words
from ayb_jobs.storage import exposure, server
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.listener import notifications_arrive
from ayb_jobs.storage.queue.executions import ids_behind

HELD_S = 300.0
IDLE_S = 60.0
# Dead versions of rows that are worth a word: so many, and more than there are live ones.
MANY_DEAD = 10_000
FULL = 0.8
HALF = 0.5
SKEW_S = 2.0
# So many tables are named in one sentence.
NAMED = 5
# How each kind of holder is named, and what ends it.
HOLDERS: Mapping[str, tuple[str, str]] = {
    "session": ("the session with pid", "End its transaction, or: SELECT pg_terminate_backend({name})"),
    "prepared transaction": ("the prepared transaction", "COMMIT PREPARED or ROLLBACK PREPARED {name}"),
    "replication slot": (
        "the unused replication slot",
        "Have its reader go on, or drop it: SELECT pg_drop_replication_slot({name})",
    ),
}


def held_back(conn: Connection) -> Iterator[Finding]:
    """Find what keeps the server from removing old versions of rows."""
    for holder in server.list_holders(conn, since_s=HELD_S):
        age = f" for {span_words(holder.age_s)}" if holder.age_s is not None else ""
        what, remedy = HOLDERS[holder.kind]
        yield warning(
            "rows.held_back",
            f"{what} {holder.name} has kept old versions of rows{age}",
            "Queues are slower the longer it lasts, since each job leaves versions that cannot be removed.",
            remedy.format(name=holder.name if holder.kind == "session" else server.sql_text(conn, holder.name)),
            holder._asdict(),
        )


def idle_locks(conn: Connection) -> Iterator[Finding]:
    """Find sessions that hold locks on our tables and do nothing."""
    for each in server.list_idle_locks(conn, since_s=IDLE_S):
        yield warning(
            "locks.idle",
            f"the session with pid {each.pid} has held locks on {each.table} for {span_words(each.idle_s)} and does nothing",
            "Jobs whose rows it holds are neither settled nor taken over until it ends.",
            f"End its transaction, or: SELECT pg_terminate_backend({each.pid})",
            each._asdict(),
        )


def dead_rows(conn: Connection) -> Iterator[Finding]:
    """Find tables of ours that autovacuum does not keep up with."""
    for table in server.list_tables(conn):
        if table.dead >= MANY_DEAD and table.dead > table.live:
            vacuumed = (
                f"was vacuumed {span_words(table.vacuumed_s)} ago"
                if table.vacuumed_s is not None
                else "was never vacuumed"
            )
            yield warning(
                "table.bloated",
                f"{table.name} has {table.dead:,} dead versions of rows beside {table.live:,} live ones; it {vacuumed}",
                "Statements walk over dead versions, and become slower.",
                "ayb-jobs doctor --fix, which vacuums it; if it comes again, give autovacuum more room",
                table._asdict(),
            )
        if table.autovacuum_off:
            yield warning(
                "table.autovacuum_off",
                f"autovacuum is off for {table.name}",
                "Nothing removes the versions that each job leaves behind.",
                f"ALTER TABLE {table.name} RESET (autovacuum_enabled), or set autovacuum = on",
                table._asdict(),
            )


def owners(conn: Connection) -> Iterator[Finding]:
    """Find that our tables belong to several roles."""
    found = exposure.list_owners(conn)
    if len(found) > 1:
        yield warning(
            "tables.several_owners",
            f"our tables, views and sequences belong to {len(found)} roles: {', '.join(map(quoted, found))}",
            "A migration run by one of them cannot change what belongs to another.",
            "ALTER TABLE … OWNER TO the role that migrates",
            {"owners": found},
        )


def open_schemas(conn: Connection) -> Iterator[Finding]:
    """Find that everybody may create objects beside our tables, or that a role made what passes for a built-in."""
    for words, owner in exposure.list_shadowing(conn):
        yield warning(
            "schema.shadowed",
            f"another role has made {words} beside our tables, which may be taken for a built-in",
            "A statement that means the built-in may run that role's function. The daemon's own do not.",
            "drop it, unless its owner may do all that the roles may that use the database",
            {"object": words, "owner": owner},
        )
    for schema in exposure.list_open_schemas(conn):
        yield warning(
            "schema.open",
            f"everybody may create objects in the schema {quoted(schema)}, where our tables are",
            "A role can make a function or an operator there that statements of others then run.",
            f"REVOKE CREATE ON SCHEMA {server.sql_name(conn, schema)} FROM PUBLIC",
            {"schema": schema},
        )


def public(conn: Connection) -> Iterator[Finding]:
    """Find what is ours and everybody may use."""
    found = exposure.list_public(conn)
    if found:
        yield warning(
            "rights.public",
            f"everybody may use {found[0]}" + (f", and {len(found) - 1} more of ours" if found[1:] else ""),
            "Any role that can connect reads or changes jobs with it, also one of the application's end users.",
            "REVOKE ALL ON … FROM PUBLIC for each that the evidence names; ayb-jobs grant gives a role what it needs",
            {"objects": found},
        )


def rights(conn: Connection) -> Iterator[Finding]:
    """Find tables, sequences and functions on which this role lacks what a daemon needs."""
    denied = exposure.list_denied(conn)
    if denied:
        further = f", and {len(denied) - NAMED:,} more" if len(denied) > NAMED else ""
        yield warning(
            "rights.missing",
            f"this role lacks rights on {', '.join(denied[:NAMED])}{further}",
            "A daemon that runs as this role fails where it needs them.",
            "ayb-jobs grant ROLE --daemon",
            {"objects": denied},
        )


def server_settings(conn: Connection) -> Iterator[Finding]:
    """Find settings of the server that cost jobs, and what is nearly full."""
    state = server.ask_server(conn)
    if not state.fsync:
        yield warning(
            "server.fsync_off", "`fsync` is off", "A crash of the machine can destroy the whole database.",
            "set fsync = on", {"fsync": False},
        )  # fmt: skip
    if not state.synchronous_commit:
        yield warning(
            "server.asynchronous_commit",
            "`synchronous_commit` is off for this role",
            "A crash of the server can lose jobs that were committed within the last second.",
            "set synchronous_commit = on",
            {"synchronousCommit": False},
        )
    if state.connections >= state.max_connections * FULL:
        yield warning(
            "server.connections",
            f"{state.connections:,} of {state.max_connections:,} connections are in use",
            "A daemon that reconnects may be refused, and works no more until one is free.",
            "raise max_connections, lower database.work_connections, or put a pooler between",
            {"used": state.connections, "max": state.max_connections},
        )
    if state.queue_used >= HALF:
        yield warning(
            "server.notify_queue",
            f"the server's queue of notifications is {state.queue_used:.0%} full",
            "From the half on daemons send no notifications, and jobs are found by polling, a second late.",
            "End the session that listens and sits in a transaction; the session with the oldest transaction tells which",
            {"used": state.queue_used},
        )
    skew_s = time.time() - state.clock
    if abs(skew_s) > SKEW_S:
        yield warning(
            "clock.skew",
            f"this machine's clock is {span_words(abs(skew_s))} {'ahead of' if skew_s > 0 else 'behind'} the database's",
            "Jobs go by the database's clock. Log lines of this machine, sessions of its dashboard and the time in signatures go by its own.",
            "Have both keep time by NTP",
            {"skewSec": skew_s},
        )


def numbers(conn: Connection) -> Iterator[Finding]:
    """Find that the numbers of attempts would come again."""
    behind = ids_behind(conn)
    if behind:
        yield warning(
            "sequence.behind",
            f"the sequence of attempts stands at {behind[1]:,}, behind the highest in the log, {behind[0]:,}",
            "It was restored without its sequence. A daemon puts that right when it first settles such an attempt.",
            "ayb-jobs doctor --fix",
            {"highest": behind[0], "sequence": behind[1]},
        )


def daemon_clocks(conn: Connection) -> Iterator[Finding]:
    """Find daemons whose clocks differ from the database's."""
    for each in server.list_clocks(conn, skew_s=SKEW_S):
        yield warning(
            "daemon.clock",
            f"the clock of daemon {each.id} is {span_words(abs(each.ahead_s))} "
            f"{'ahead of' if each.ahead_s > 0 else 'behind'} the database's",
            "Jobs go by the database's clock. Its log lines, sessions of its dashboard and the time in signatures go by its own.",
            "Have both keep time by NTP",
            each._asdict(),
        )


def zones(conn: Connection) -> Iterator[Finding]:
    """Find zones of schedules of which this machine and the server know different rules."""
    odd: dict[str, datetime] = {}
    for each in server.list_zone_offsets(conn):
        if (
            each.offset_s is not None
            and each.zone not in odd
            and _offset_s(each.zone, each.at) not in (None, each.offset_s)
        ):
            odd[each.zone] = each.at
    if odd:
        yield warning(
            "zones.differ",
            f"this machine and the database know different rules for {', '.join(map(quoted, odd))}",
            "Schedules fire by the daemons' rules. What SQL shows in such a zone, and what other machines plan, may differ.",
            "Bring the time zone data of both up to date (tzdata)",
            {"zones": {zone: at.isoformat() for zone, at in odd.items()}},
        )


def _offset_s(zone: str, at: datetime) -> float | None:
    """Return how far a zone is ahead of UTC by this machine's data; None if it has none."""
    try:
        return utc_offset(find_zone(zone), at).total_seconds()
    except InvalidInput:
        return None


def unheard(url: str) -> Finding | None:
    """Find that notifications do not arrive, by sending one."""
    if notifications_arrive(url):
        return None
    return warning(
        "notify.unheard",
        "notifications do not arrive: one that was sent was not heard within 3 s, or a pooler stands between",
        "Due jobs are found by polling, up to jobs.poll_interval_ms late.",
        "set database.direct_url to an address past the pooler",
        {},
    )
