"""What `ayb-jobs doctor` asks beyond the checks of health, each with the check that answers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ayb_jobs.checks import schedules, server, trouble
from ayb_jobs.checks.drift import broken_indexes, changed, missing_columns
from ayb_jobs.checks.finding import Finding
from ayb_jobs.checks.fleet import unclaimable_behind
from ayb_jobs.storage.database import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Something that doctor asks, in words, and the check that answers."""

    words: str
    ask: Callable[[Connection], Iterator[Finding]]
    sees_others: bool = False


QUESTIONS: Sequence[Question] = (
    Question(words="old versions of rows can be removed", ask=server.held_back, sees_others=True),
    Question(words="no idle session holds our rows", ask=server.idle_locks, sees_others=True),
    Question(words="autovacuum keeps up", ask=server.dead_rows),
    Question(words="every index is there and valid", ask=broken_indexes),
    Question(words="every column is there", ask=missing_columns),
    Question(words="all of ours is as the migrations make it", ask=changed),
    Question(words="our tables belong to one role", ask=server.owners),
    Question(words="only trusted roles create objects beside our tables", ask=server.open_schemas),
    Question(words="nobody may use what is ours unasked", ask=server.public),
    Question(words="this role may do what a daemon does", ask=server.rights),
    Question(words="the server keeps what it commits, and has room", ask=server.server_settings),
    Question(words="the numbers of attempts go on behind the log", ask=server.numbers),
    Question(words="all daemons are of one version", ask=trouble.versions),
    Question(words="every live daemon obeys the limits and pauses", ask=trouble.unobeyed),
    Question(words="what waits can be met", ask=trouble.never_met),
    Question(words="each due job has a live daemon that can run it", ask=unclaimable_behind),
    Question(words="every schedule has a fire ahead", ask=schedules.never),
    Question(words="every batch can end", ask=trouble.never_sealed),
    Question(words="attempts keep their daemon", ask=trouble.often_lost),
    Question(words="a crash fails no job", ask=trouble.one_attempt),
    Question(words="what lost its daemon ends within its lease", ask=trouble.long_runs),
    Question(words="the daemons' clocks agree with the database's", ask=server.daemon_clocks),
    Question(words="time zones have the same rules here and there", ask=server.zones),
)
