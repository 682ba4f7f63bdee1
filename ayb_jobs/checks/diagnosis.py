"""What `ayb-jobs doctor` asks beyond the checks of health: the server, our tables, and who holds them up."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ayb_jobs.checks.drift import broken_indexes, changed, missing_columns
from ayb_jobs.checks.finding import Finding, warning
from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.schedules.zones import find_zone, utc_offset
from ayb_jobs.model.words import count_words, quoted, span_words
from ayb_jobs.storage import diagnosis
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.limits import list_limits
from ayb_jobs.storage.fleet.pauses import list_unconfirmed
from ayb_jobs.storage.listener import notifications_arrive
from ayb_jobs.storage.queue.batch_views import find_forgotten

HELD_S = 300.0
IDLE_S = 60.0
# Dead versions of rows that are worth a word: so many, and more than there are live ones.
MANY_DEAD = 10_000
FULL = 0.8
HALF = 0.5
SKEW_S = 2.0
# How each kind of holder is named, and what ends it.
HOLDERS: Mapping[str, tuple[str, str]] = {
    "session": ("the session with pid", "End its transaction, or: SELECT pg_terminate_backend({name})"),
    "prepared transaction": ("the prepared transaction", "COMMIT PREPARED or ROLLBACK PREPARED '{name}'"),
    "replication slot": (
        "the unused replication slot",
        "Have its reader go on, or drop it: SELECT pg_drop_replication_slot('{name}')",
    ),
}


def held_back(conn: Connection) -> Iterator[Finding]:
    """Find what keeps the server from removing old versions of rows."""
    for holder in diagnosis.list_holders(conn, since_s=HELD_S):
        age = f" for {span_words(holder.age_s)}" if holder.age_s is not None else ""
        what, remedy = HOLDERS[holder.kind]
        yield warning(
            "rows.held_back",
            f"{what} {holder.name} has kept old versions of rows{age}",
            "Queues are slower the longer it lasts, since each job leaves versions that cannot be removed.",
            remedy.format(name=holder.name),
            holder._asdict(),
        )


def idle_locks(conn: Connection) -> Iterator[Finding]:
    """Find sessions that hold locks on our tables and do nothing."""
    for each in diagnosis.list_idle_locks(conn, since_s=IDLE_S):
        yield warning(
            "locks.idle",
            f"the session with pid {each.pid} has held locks on {each.table} for {span_words(each.idle_s)} and does nothing",
            "Jobs whose rows it holds are neither settled nor taken over until it ends.",
            f"End its transaction, or: SELECT pg_terminate_backend({each.pid})",
            each._asdict(),
        )


def dead_rows(conn: Connection) -> Iterator[Finding]:
    """Find tables of ours that autovacuum does not keep up with."""
    for table in diagnosis.list_tables(conn):
        if table.dead >= MANY_DEAD and table.dead > table.live:
            vacuumed = f"{span_words(table.vacuumed_s)} ago" if table.vacuumed_s is not None else "never"
            yield warning(
                "table.bloated",
                f"{table.name} has {table.dead:,} dead versions of rows beside {table.live:,} live ones; it was vacuumed {vacuumed}",
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
    found = diagnosis.list_owners(conn)
    if len(found) > 1:
        yield warning(
            "tables.several_owners",
            f"our tables, views and sequences belong to {len(found)} roles: {', '.join(map(quoted, found))}",
            "A migration run by one of them cannot change what belongs to another.",
            "ALTER TABLE … OWNER TO the role that migrates",
            {"owners": found},
        )


def open_schemas(conn: Connection) -> Iterator[Finding]:
    """Find that everybody may create objects beside our tables."""
    for schema in diagnosis.list_open_schemas(conn):
        yield warning(
            "schema.open",
            f"everybody may create objects in the schema {quoted(schema)}, where our tables are",
            "A role can make a function or an operator there that statements of others then run.",
            f"REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC",
            {"schema": schema},
        )


def rights(conn: Connection) -> Iterator[Finding]:
    """Find tables on which this role lacks what a daemon needs."""
    denied = diagnosis.list_denied(conn)
    if denied:
        yield warning(
            "rights.missing",
            f"this role lacks rights on {count_words(len(denied), 'table')} of ours: {', '.join(denied)}",
            "A daemon that runs as this role fails where it needs them.",
            "ayb-jobs grant ROLE --daemon",
            {"tables": denied},
        )


def server_settings(conn: Connection) -> Iterator[Finding]:
    """Find settings of the server that cost jobs, and what is nearly full."""
    state = diagnosis.ask_server(conn)
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
            "Jobs go by the database's clock. Log lines of this machine, and sessions of its dashboard, go by its own.",
            "Have both keep time by NTP",
            {"skewSec": skew_s},
        )


def numbers(conn: Connection) -> Iterator[Finding]:
    """Find that the numbers of attempts would come again."""
    behind = diagnosis.ids_behind(conn)
    if behind:
        yield warning(
            "sequence.behind",
            f"the sequence of attempts stands at {behind[1]:,}, behind the highest in the log, {behind[0]:,}",
            "It was restored without its sequence. A daemon puts that right when it first settles such an attempt.",
            "ayb-jobs doctor --fix",
            {"highest": behind[0], "sequence": behind[1]},
        )


def versions(conn: Connection) -> Iterator[Finding]:
    """Find that daemons of several versions are alive."""
    found = diagnosis.list_versions(conn)
    if len(found) > 1:
        told = ", ".join(f"{count} of {version}" for version, count in found.items())
        yield warning(
            "daemons.mixed",
            f"daemons of {len(found)} versions are alive: {told}",
            "That is meant during a deploy. What is new is done by the new ones alone.",
            "End the deploy: update the daemons that were left",
            {"versions": found},
        )


def unobeyed(conn: Connection) -> Iterator[Finding]:
    """Find limits and pauses that live daemons have not confirmed: they may start jobs beside them."""
    limits = {each.new.name: list(each.waiting_for) for each in list_limits(conn) if each.waiting_for}
    pauses = {f"{kind} {name}": ids for (kind, name), ids in list_unconfirmed(conn).items()}
    for kind, found in (("limit", limits), ("pause", pauses)):
        if not found:
            continue
        daemons = sorted({one for ids in found.values() for one in ids})
        yield warning(
            f"{kind}s.unobeyed",
            f"{count_words(len(found), kind)} {'is' if len(found) == 1 else 'are'} not in force: "
            f"{', '.join(found)}; not confirmed by {', '.join(daemons)}",
            f"These daemons may start jobs beside {'it' if len(found) == 1 else 'them'}. One of an older version never confirms.",
            "Update or stop the daemons that are named; one of this version confirms within a second",
            {f"{kind}s": found, "daemons": daemons},
        )


def never_met(conn: Connection) -> Iterator[Finding]:
    """Find limits that let no job start, and jobs whose parent failed and is held for."""
    for limit in list_limits(conn):
        if limit.waiting and 0 in (limit.new.max_running, limit.new.key_max_running):
            yield warning(
                "limits.never",
                f"the limit {quoted(limit.new.name)} lets no job start, and {count_words(limit.waiting, 'job waits', 'jobs wait')} under it",
                "They wait until the limit is changed or removed.",
                f"ayb-jobs limits set {limit.new.name} …, or: ayb-jobs limits remove {limit.new.name}",
                {"limit": limit.new.name, "waiting": limit.waiting},
            )
    held = diagnosis.count_held_children(conn)
    if held is not None:
        yield warning(
            "children.held",
            f"{count_words(held.children, 'job waits', 'jobs wait')} for a parent that failed or was canceled, such as {held.parent_id}",
            "They were enqueued so: they wait until it is retried and completes.",
            f"ayb-jobs jobs retry {held.parent_id}, or cancel what waits",
            held._asdict(),
        )


def never_sealed(conn: Connection) -> Iterator[Finding]:
    """Find batches that nobody has sealed, and in which nothing waits or runs."""
    found = find_forgotten(conn)
    if found is not None:
        it, is_ = ("it", "is") if found.batches == 1 else ("them", "are")
        yield warning(
            "batches.unsealed",
            f"{count_words(found.batches, 'batch', 'batches')} {is_} not sealed, and none of the jobs waits or runs: "
            f"{found.first}, made {span_words(found.age_s)} ago{'' if found.batches == 1 else ', and others'}",
            "A batch ends, and its callbacks come, once it is sealed. Until then retention leaves its jobs.",
            f"ayb-jobs batches seal {found.first}, or cancel {it}: ayb-jobs batches cancel {found.first}",
            found._asdict(),
        )


def often_lost(conn: Connection) -> Iterator[Finding]:
    """Find types whose attempts often lose their daemon."""
    found = diagnosis.list_often_lost(conn)
    if found:
        yield warning(
            "types.often_lost",
            f"attempts of {', '.join(map(quoted, found))} often lose their daemon",
            "They kill their process, or the daemon was killed or paused meanwhile; each loss counts as a crash.",
            "ayb-jobs jobs list --state failed, and the memory of the daemon's host",
            {"types": found},
        )


def one_attempt(conn: Connection) -> Iterator[Finding]:
    """Find types whose jobs have one attempt alone."""
    found = diagnosis.list_one_attempt(conn)
    if found:
        yield warning(
            "types.one_attempt",
            f"some of the newest jobs of {', '.join(map(quoted, found))} have one attempt alone",
            "If their daemon is killed, they fail although their handler did not.",
            "Give the type, or whoever enqueues them, max_attempts = 2 or more; a handler that must not run twice returns early the second time",
            {"types": found},
        )


def long_runs(conn: Connection) -> Iterator[Finding]:
    """Find types that run for longer than their lease, and lost daemons lately."""
    for each in diagnosis.list_long_runs(conn):
        yield warning(
            "types.outrun_lease",
            f"{quoted(each.type)} jobs usually run {span_words(each.run_s)}, longer than their lease of "
            f"{span_words(each.lease_s)}, and some lost their daemon",
            "A lease is extended while its daemon can. A handler that holds the interpreter keeps it from that.",
            'Have the handler call ctx.progress, give it isolation = "process", or raise jobs.lease_duration_s',
            each._asdict(),
        )


def daemon_clocks(conn: Connection) -> Iterator[Finding]:
    """Find daemons whose clocks differ from the database's."""
    for each in diagnosis.list_clocks(conn, skew_s=SKEW_S):
        yield warning(
            "daemon.clock",
            f"the clock of daemon {each.id} is {span_words(abs(each.ahead_s))} "
            f"{'ahead of' if each.ahead_s > 0 else 'behind'} the database's",
            "Jobs go by the database's clock. Its log lines, and sessions of its dashboard, go by its own.",
            "Have both keep time by NTP",
            each._asdict(),
        )


def zones(conn: Connection) -> Iterator[Finding]:
    """Find zones of schedules of which this machine and the server know different rules."""
    odd: dict[str, datetime] = {}
    for each in diagnosis.list_zone_offsets(conn):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Something that doctor asks, in words, and the check that answers."""

    words: str
    ask: Callable[[Connection], Iterator[Finding]]
    sees_others: bool = False


QUESTIONS: Sequence[Question] = (
    Question(words="old versions of rows can be removed", ask=held_back, sees_others=True),
    Question(words="no idle session holds our rows", ask=idle_locks, sees_others=True),
    Question(words="autovacuum keeps up", ask=dead_rows),
    Question(words="every index is there and valid", ask=broken_indexes),
    Question(words="every column is there", ask=missing_columns),
    Question(words="all of ours is as the migrations make it", ask=changed),
    Question(words="our tables belong to one role", ask=owners),
    Question(words="only trusted roles create objects beside our tables", ask=open_schemas),
    Question(words="this role may do what a daemon does", ask=rights),
    Question(words="the server keeps what it commits, and has room", ask=server_settings),
    Question(words="the numbers of attempts go on behind the log", ask=numbers),
    Question(words="all daemons are of one version", ask=versions),
    Question(words="every live daemon obeys the limits and pauses", ask=unobeyed),
    Question(words="what waits can be met", ask=never_met),
    Question(words="every batch can end", ask=never_sealed),
    Question(words="attempts keep their daemon", ask=often_lost),
    Question(words="a crash fails no job", ask=one_attempt),
    Question(words="what lost its daemon ends within its lease", ask=long_runs),
    Question(words="the daemons' clocks agree with the database's", ask=daemon_clocks),
    Question(words="time zones have the same rules here and there", ask=zones),
)
