"""Checks of the work: of daemons, types, limits, batches, and of what waits for a parent."""

import shlex
from collections.abc import Iterator

from ayb_jobs.checks.finding import Finding, warning
from ayb_jobs.model.words import count_words, quoted, span_words
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet import trouble
from ayb_jobs.storage.fleet.limits import list_limits
from ayb_jobs.storage.fleet.pauses import list_unconfirmed
from ayb_jobs.storage.queue.batch_views import find_forgotten


def versions(conn: Connection) -> Iterator[Finding]:
    """Find that daemons of several versions are alive."""
    found = trouble.list_versions(conn)
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
            typed = shlex.quote(limit.new.name)
            yield warning(
                "limits.never",
                f"the limit {quoted(limit.new.name)} lets no job start, and {count_words(limit.waiting, 'job waits', 'jobs wait', most=10_000)} under it",
                "They wait until the limit is changed or removed.",
                f"ayb-jobs limits set {typed} …, or: ayb-jobs limits remove {typed}",
                {"limit": limit.new.name, "waiting": limit.waiting},
            )
    held = trouble.count_held_children(conn)
    if held is not None:
        yield warning(
            "children.held",
            f"{count_words(held.children, 'job waits', 'jobs wait', most=1000)} for a parent that failed or was canceled, such as {held.parent_id}",
            "They were enqueued so: they wait until it is retried and completes.",
            f"ayb-jobs jobs retry {held.parent_id}, or cancel what waits",
            held._asdict(),
        )


def never_sealed(conn: Connection) -> Iterator[Finding]:
    """Find batches that nobody has sealed, and in which nothing waits or runs."""
    found = find_forgotten(conn)
    if found is not None:
        it, is_ = ("it", "is") if found.batches == 1 else ("them", "are")
        made = f", made {span_words(found.age_s)} ago" if found.age_s is not None else ""
        yield warning(
            "batches.unsealed",
            f"{count_words(found.batches, 'batch', 'batches', most=1000)} {is_} not sealed, and none of the jobs waits or runs: "
            f"{found.first}{made}{'' if found.batches == 1 else ', and others'}",
            "A batch ends, and its callbacks come, once it is sealed. Until then retention leaves its jobs.",
            f"ayb-jobs batches seal {found.first}, or cancel {it}: ayb-jobs batches cancel {found.first}",
            found._asdict(),
        )


def often_lost(conn: Connection) -> Iterator[Finding]:
    """Find types whose attempts often lose their daemon."""
    found = trouble.list_often_lost(conn)
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
    found = trouble.list_one_attempt(conn)
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
    for each in trouble.list_long_runs(conn):
        yield warning(
            "types.outrun_lease",
            f"{quoted(each.type)} jobs usually run {span_words(each.run_s)}, longer than their lease of "
            f"{span_words(each.lease_s)}, and some lost their daemon, more than once",
            "A lease is extended while its daemon can. A handler that holds the interpreter keeps it from that.",
            'Have the handler call ctx.progress, give it isolation = "process", or raise jobs.lease_duration_s',
            each._asdict(),
        )
