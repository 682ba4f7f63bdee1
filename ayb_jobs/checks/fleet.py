"""Whether daemons are alive, and whether they can run what is due."""

from collections.abc import Iterator, Mapping, Sequence

from ayb_jobs.checks.finding import Finding, Severity
from ayb_jobs.errors import AybJobsError
from ayb_jobs.model.words import count_words, quoted, span_words
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import ALIVE_S
from ayb_jobs.storage.fleet.lifelines import HeardDaemon
from ayb_jobs.storage.fleet.unclaimable import LOOK, Unclaimable, unclaimable_by_all
from ayb_jobs.storage.queue.lateness import count_silent

# So many types are named in one sentence.
NAMED = 3

# A living daemon gives a sign of life every 20 s, whatever became of its lifeline.
SIGN_S = 25.0

# So many due jobs doctor looks at. A second or two; health, which is asked all the time, looks at fewer.
DOCTOR_LOOKS_AT = 1_000_000


def lifeless(fleet: Sequence[HeardDaemon]) -> Finding | None:
    """Find daemons that were heard of a moment ago and whose lifeline nobody holds, as after a kill."""
    found = [daemon.id for daemon in fleet if daemon.is_lifeless]
    if not found:
        return None
    return Finding(
        name="daemon.lifeless",
        severity=Severity.WARNING,
        fact="nobody holds the lifeline of a daemon: its process ended, or its connection was lost a moment ago",
        meaning="If it ended, its jobs run again within two seconds if another daemon lives.",
        remedy="Look whether the process runs.",
        evidence={"daemons": found},
    )


def is_gone(daemon: HeardDaemon) -> bool:
    """Tell whether a daemon has most likely ended: nobody holds its lifeline, and it has missed a sign of life."""
    return daemon.is_lifeless and daemon.silent_s >= SIGN_S


def no_daemon(fleet: Sequence[HeardDaemon], *, host: str | None = None) -> Finding | None:
    """Find that no daemon is alive, on a host if one is named, or that each that is alive drains.

    One whose lifeline nobody holds is not alive if it has missed a sign of life, too.
    """
    alive = [daemon for daemon in fleet if not is_gone(daemon)]
    hosts = [daemon.host for daemon in alive]
    where = "" if host is None else " on this host"
    if host in hosts or (host is None and hosts):
        return _all_drain(alive) if host is None and all(daemon.drains for daemon in alive) else None
    return Finding(
        name="daemon.none",
        severity=Severity.FAILING,
        fact=f"no daemon is alive{where}: it stopped, or has been silent for {ALIVE_S:.0f} s",
        meaning="No job runs, and no schedule fires.",
        remedy="ayb-jobs run",
        evidence={"alive": len(hosts)},
    )


def _all_drain(alive: Sequence[HeardDaemon]) -> Finding:
    drain = "drains, and ends when its handlers have" if len(alive) == 1 else "drain, and end when their handlers have"
    return Finding(
        name="daemon.none",
        severity=Severity.FAILING,
        fact=f"no daemon takes jobs: {count_words(len(alive), 'daemon')} {drain}",
        meaning="What runs ends. Nothing else starts.",
        remedy="ayb-jobs run",
        evidence={"alive": len(alive)},
    )


def stuck(fleet: Sequence[HeardDaemon], *, host: str | None = None) -> Finding | None:
    """Find daemons, of a host if one is named, with loops that make no progress; it is grave if every one has some."""
    looked_at = [daemon for daemon in fleet if host in (None, daemon.host)]
    found = [daemon for daemon in looked_at if daemon.stuck_loops]
    if not found:
        return None
    loops = sorted({name for daemon in found for name in daemon.stuck_loops})
    which = f"loop {loops[0]}" if len(loops) == 1 else f"loops {', '.join(loops)}"
    many = "the daemon" if len(looked_at) == 1 else f"{len(found):,} of {len(looked_at):,} daemons"
    return Finding(
        name="daemon.stuck",
        severity=Severity.FAILING if len(found) == len(looked_at) else Severity.WARNING,
        fact=f"{which} of {many} {'makes' if len(loops) == 1 else 'make'} no progress",
        meaning="A loop is one part of a daemon's work, which its name tells; that is not done there. "
        "The daemon tries again and again, or a turn of it hangs.",
        remedy="Look for loop.failed in the log of the daemon; restart it if it hangs.",
        evidence={"daemons": [daemon.id for daemon in found], "loops": loops},
    )


def stuck_handlers(fleet: Sequence[HeardDaemon]) -> Finding | None:
    """Find slots that are held by handlers that were told to stop and did not; it is grave if no other slot is left."""
    looked_at = [daemon for daemon in fleet if not daemon.drains and not daemon.is_lifeless]
    found = [daemon for daemon in looked_at if daemon.stuck_slots]
    if not found:
        return None
    held, slots = sum(each.stuck_slots for each in found), sum(each.slots for each in found)
    many = "the daemon" if len(looked_at) == 1 else f"{len(found):,} of {len(looked_at):,} daemons"
    by = "a handler that was told to stop and did not" if held == 1 else "handlers that were told to stop and did not"
    none_left = held >= sum(daemon.slots for daemon in looked_at)
    return Finding(
        name="handlers.stuck",
        severity=Severity.FAILING if none_left else Severity.WARNING,
        fact=f"{held:,} of the {count_words(slots, 'slot')} of {many} {'is' if held == 1 else 'are'} held by {by}",
        meaning="Nothing else starts in such a slot until the handler ends, or the process. Its job has been settled.",
        remedy='Restart the daemon. A type with isolation = "process" has its handler killed instead.',
        evidence={"daemons": [daemon.id for daemon in found], "stuck": held, "slots": slots},
    )


def stopping() -> Finding:
    """Return that a daemon was told to stop."""
    return Finding(
        name="daemon.stopping",
        severity=Severity.FAILING,
        fact="the daemon is stopping",
        meaning="It leases no more jobs, and waits for the handlers that run.",
        remedy="Nothing; its peers go on with the jobs.",
    )


def unclaimable(conn: Connection) -> Finding | None:
    """Find due jobs that no live daemon can run: any of 10,000; if more are due, any at either end of a lane."""
    found = unclaimable_by_all(conn, look=LOOK)
    return _unclaimable(found) if found.total else None


def unclaimable_behind(conn: Connection, *, look: int = DOCTOR_LOOKS_AT) -> Iterator[Finding]:
    """Find due jobs that no live daemon can run behind those that `unclaimable` looks at, if it finds none.

    Raises if more are due than even this looks at, and none is found.
    """
    if unclaimable_by_all(conn, look=LOOK).total:
        return
    found = unclaimable_by_all(conn, look=look)
    if found.total:
        yield _unclaimable(found)
    elif found.cut:
        raise AybJobsError(f"more than {look:,} jobs are due; of those that were looked at, each has one")


def _unclaimable(found: Unclaimable) -> Finding:
    waiting = f"{count_words(found.total, 'due job waits', 'due jobs wait', cut=found.cut)} that no live daemon can run"
    return Finding(
        name="jobs.unclaimable",
        severity=Severity.WARNING,
        fact=waiting,
        named=f"{waiting}: {_why_unclaimable(found)}",
        meaning="They wait until a daemon that knows their type serves their queue.",
        remedy="ayb-jobs why",
        evidence={"count": found.total, "atLeast": found.cut, "byType": found.types, "byQueue": found.queues},
    )


def _why_unclaimable(found: Unclaimable) -> str:
    unknown, unserved = _named(found.types, "type"), _named(found.queues, "queue")
    return "; ".join(
        [*([f"none knows {unknown}"] if unknown else []), *([f"none serves {unserved}"] if unserved else [])]
    )


def _named(counts: Mapping[str, int], what: str) -> str:
    """Name the first types or queues, and say how many there are besides."""
    names = [quoted(name) for name in list(counts)[:NAMED]]
    further = len(counts) - len(names)
    listed = ", ".join([*names, *([count_words(further, f"further {what}")] if further else [])])
    return f"{what if len(counts) == 1 else f'{what}s'} {listed}" if listed else ""


def gone(conn: Connection) -> Finding | None:
    """Find daemons that fell silent within a day, and did not say that they stop."""
    silent = count_silent(conn)
    if not silent.daemons:
        return None
    heard = f"last heard of {span_words(silent.silent_s)} ago"
    many = f"{silent.daemons:,} daemons fell silent"
    one, last = f"daemon {quoted(silent.last)}", f"the last, {quoted(silent.last)},"
    return Finding(
        name="daemon.gone",
        severity=Severity.WARNING,
        fact=f"1 daemon was {heard}" if silent.daemons == 1 else f"{many}, the last was {heard}",
        named=f"{one} was {heard}" if silent.daemons == 1 else f"{many}; {last} was {heard}",
        meaning="It was killed, hangs, or cannot reach the database. Daemons that live take its jobs over."
        if silent.daemons == 1
        else "They were killed, hang, or cannot reach the database. Daemons that live take their jobs over.",
        remedy="Look whether its host and its process live; start it again, or wait a day until it is forgotten.",
        evidence={"count": silent.daemons, "silentSec": silent.silent_s},
    )
