"""Counts what happens, at next to no cost per job: plain numbers, grouped batch by batch."""

import threading
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import assert_never

from ayb_jobs import events
from ayb_jobs.events import Event
from ayb_jobs.frozen import frozen
from ayb_jobs.metrics.catalogue import CATALOGUE, RUN_BUCKETS, Labels
from ayb_jobs.model.actions import ActionTaken
from ayb_jobs.model.job import JobState
from ayb_jobs.model.lifecycle import Outcome

# Job types and queues come from whoever enqueues; beyond so many they share one label, since each label value costs
# memory for ever.
MOST_TYPES = 200
MOST_QUEUES = 200
OTHER = "other"

# The jobs of one batch were leased at one moment, and lie close together in the queue: a few tell of all.
WAITS_PER_BATCH = 10


@dataclass(slots=True)
class Histogram:
    """Counts of values by upper bound, the last one for those above every bound; and their sum."""

    counts: list[int]
    sum: float = 0.0

    def add(self, buckets: tuple[float, ...], value: float, weight: int = 1) -> None:
        """Count a value, standing for `weight` of them."""
        self.counts[bisect_left(buckets, value)] += weight
        self.sum += value * weight

    def add_all(self, buckets: tuple[float, ...], values: Iterable[float]) -> None:
        """Count many values, at a cost for each bound and next to none for each value."""
        ordered = sorted(values)
        below = 0
        for place, bound in enumerate(buckets):
            upto = bisect_right(ordered, bound, below)
            self.counts[place] += upto - below
            below = upto
        self.counts[-1] += len(ordered) - below
        self.sum += sum(ordered)


@frozen
class Snapshot:
    """The numbers at one moment, by metric and label values."""

    numbers: Mapping[str, Mapping[Labels, float]]
    histograms: Mapping[str, Mapping[Labels, Histogram]]


@dataclass(slots=True)
class _Numbers:
    counts: defaultdict[str, Counter[Labels]] = field(default_factory=lambda: defaultdict(Counter))
    histograms: defaultdict[str, dict[Labels, Histogram]] = field(default_factory=lambda: defaultdict(dict))


class Names:
    """The values of one label: the first so many names keep theirs, and all later ones share `other`."""

    def __init__(self, most: int, known: Iterable[str] = ()) -> None:
        self._most = most
        self._names = set(known)

    def keep(self, names: Iterable[str]) -> None:
        """Have these names keep theirs, whatever number there are."""
        self._names.update(names)

    def __call__(self, name: str) -> str:
        """Return the label of a name."""
        if name not in self._names:
            if len(self._names) >= self._most:
                return OTHER
            self._names.add(name)
        return name


class Metrics:
    """Counts what happens; give `Metrics` to `Events.subscribe`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = _Numbers()
        self._type = Names(MOST_TYPES)
        # Types that nobody here knows must not use up the labels of those that run here.
        self._unclaimable = Names(MOST_TYPES)

    def __call__(self, event: Event) -> None:
        """Count an event."""
        with self._lock:
            self._count(event)

    def snapshot(self) -> Snapshot:
        """Return the numbers as they are now."""
        with self._lock:
            return Snapshot(
                numbers={name: dict(values) for name, values in self._numbers.counts.items()},
                histograms={
                    name: {labels: Histogram(list(one.counts), one.sum) for labels, one in values.items()}
                    for name, values in self._numbers.histograms.items()
                },
            )

    def _count(self, event: Event) -> None:  # noqa: C901, PLR0912, PLR0915 - a flat table of events
        match event:
            case events.JobsLeased():
                self._leased(event)
            case events.JobsSettled():
                self._settled(event)
            case ActionTaken():
                if event.enqueued:
                    self._add("ayb_jobs_enqueued", "api", by=sum(event.enqueued.values()))
            case events.SchedulesFired():
                self._fired(event)
            case events.LeasesLost():
                self._add("ayb_jobs_stale_settles_refused", event.during, by=len(event.job_ids))
            case events.JobsReleased():
                self._add("ayb_jobs_released", by=len(event.job_ids))
            case events.JobsCanceled():  # of which the leases are known alone
                self._add("ayb_jobs_canceled", "", by=len(event.job_ids))
            case events.JobRecovered():
                self._add("ayb_jobs_recovered", event.job.state)
                if event.job.state == JobState.FAILED:
                    self._add("ayb_jobs_failed", self._type(event.job.type), Outcome.LOST.value)
            case events.ChildrenResolved():
                self._add("ayb_jobs_children_resolved", "freed", by=len(event.freed))
                self._add("ayb_jobs_children_resolved", "canceled", by=len(event.canceled))
            case events.BatchesDone():
                for each in event.batches:
                    self._add("ayb_jobs_batches_done", str(each.state), by=1)
            case events.JobOverran():
                if not event.abandoned:
                    self._add("ayb_jobs_overran", self._type(event.job.type))
            case events.EventLoopBlocked():
                self._add("ayb_jobs_event_loop_blocked", self._type(event.job.type) if event.job else "")
            case events.RowsUnprunable():
                self._numbers.counts["ayb_jobs_rows_unprunable"][(event.table,)] = event.rows
            case events.RowsPrunable():
                self._numbers.counts["ayb_jobs_rows_unprunable"][(event.table,)] = 0
            case events.RowsPruned():
                self._add("ayb_jobs_rows_pruned", event.table, by=event.rows)
            case events.JobsUnclaimable():
                waiting: Counter[Labels] = Counter()
                for name, count in event.counts.items():
                    waiting[(self._unclaimable(name),)] += count
                self._numbers.counts["ayb_jobs_unclaimable"] = waiting
            case events.RemovalRefused():
                self._add("ayb_jobs_removals_refused")
                self._failed(event.error)
            case events.ExecutionsDropped():
                self._add("ayb_jobs_executions_dropped", by=event.count)
            case events.SettlementRefused():
                self._add("ayb_jobs_settlements_refused")
                self._failed(event.error)
            case events.LoopFailed() | events.LoopErrorRepeated():
                self._add("ayb_jobs_loop_failures", event.loop)
                self._failed(event.error)
            case events.RowsSetAside():
                self._add("ayb_jobs_rows_set_aside", event.part, by=len(event.row_ids))
            case events.ApiFailed():
                self._add("ayb_jobs_api_failures")
                self._failed(event.error)
            case events.RequestFailed():
                self._add("ayb_jobs_api_errors")
                self._failed(event.error)
            case (
                events.AsideFull()
                | events.RowsTakenUp()
                | events.SettlementsTakenUp()
                | events.RetentionDeferred()
                | events.LoopRecovered()
                | events.NotificationsUnavailable()
                | events.NotificationsAvailable()
                | events.DaemonStarted()
                | events.DaemonDisabled()
                | events.DaemonDraining()
                | events.DaemonReloaded()
                | events.RestartNeeded()
                | events.ReloadRefused()
                | events.DaemonStopping()
                | events.DaemonStopped()
                | events.ScheduleBroken()
                | events.ScheduleRepaired()
                | events.SchedulePutRight()
                | events.ScheduleEnded()
                | events.SettingsNoted()
                | events.EmbeddedDatabaseUsed()
                | events.SchemaMigrated()
                | events.SchemaWaits()
                | events.ApiStarted()
                | events.ApiUnavailable()
                | events.FirstSteps()
                | events.ScheduleOverdue()
                | events.ScheduleRecovered()
                | events.AddressGone()
                | events.AlertsUndelivered()
                | events.AlertsDelivered()
                | events.TracingUnavailable()
            ):
                pass  # nothing to count
            case _:
                assert_never(event)

    def _leased(self, event: events.JobsLeased) -> None:
        jobs = event.jobs
        for job_type, count in Counter([job.type for job in jobs]).items():
            self._add("ayb_jobs_leased", self._type(job_type), by=count)
        step = max(1, len(jobs) // WAITS_PER_BATCH)
        now = datetime.now(UTC)
        for start in range(0, len(jobs), step):
            job = jobs[start]
            waited_s = max(0.0, (now - job.run_at).total_seconds())
            self._observe(
                "ayb_jobs_queue_wait_seconds", waited_s, self._type(job.type), by=min(step, len(jobs) - start)
            )

    def _fired(self, event: events.SchedulesFired) -> None:
        self._add("ayb_jobs_enqueued", "scheduler", by=len(event.job_ids))
        for advance in event.advances:
            made = [fire for fire in advance.fires if fire.outcome.makes_job]
            for outcome, count in Counter([fire.outcome for fire in advance.fires]).items():
                self._add("ayb_jobs_schedule_fires", outcome.value, by=count)
            for fire in made:
                self._observe("ayb_jobs_schedule_lag_seconds", max(0.0, (event.now - fire.fire_at).total_seconds()))

    def _settled(self, event: events.JobsSettled) -> None:
        for name, tally in event.tallies.items():
            job_type = self._type(name)
            for (state, outcome), count in tally.counts.items():
                self._ended(job_type, state, outcome, count)
            self._histogram("ayb_jobs_run_duration_seconds", job_type).add_all(RUN_BUCKETS, tally.runs_s)
            if tally.records:
                self._add("ayb_jobs_records_processed", job_type, by=tally.records)

    def _ended(self, job_type: str, state: JobState, outcome: Outcome, count: int) -> None:
        match state:
            case JobState.COMPLETED:
                self._add("ayb_jobs_completed", job_type, by=count)
            case JobState.CANCELED:
                self._add("ayb_jobs_canceled", job_type, by=count)
            case JobState.FAILED:
                self._add("ayb_jobs_failed", job_type, outcome.value, by=count)
            case _ if outcome is Outcome.SNOOZED:
                self._add("ayb_jobs_snoozed", job_type, by=count)
            case _:
                self._add("ayb_jobs_retried", job_type, outcome.value, by=count)

    def _failed(self, error: BaseException) -> None:
        sqlstate = first_sqlstate(error)
        if sqlstate is not None:
            self._add("ayb_jobs_database_errors", sqlstate)

    def _add(self, name: str, *labels: str, by: float = 1) -> None:
        self._numbers.counts[name][labels] += by  # type: ignore[assignment] # a Counter of floats

    def _observe(self, name: str, value: float, *labels: str, by: int = 1) -> None:
        self._histogram(name, *labels).add(CATALOGUE[name].buckets, value, by)

    def _histogram(self, name: str, *labels: str) -> Histogram:
        values = self._numbers.histograms[name]
        histogram = values.get(labels)
        if histogram is None:
            histogram = values[labels] = Histogram([0] * (len(CATALOGUE[name].buckets) + 1))
        return histogram


def first_sqlstate(error: BaseException) -> str | None:
    """Return the class (two characters) of the SQLSTATE in an error or its causes; "08" if a connection is gone.

    None if the error is not a database's.
    """
    for one in causes(error):
        if type(one).__module__.startswith("psycopg"):
            sqlstate = getattr(one, "sqlstate", None)
            return str(sqlstate)[:2] if sqlstate else "08"
    return None


def causes(error: BaseException) -> Iterable[BaseException]:
    """Yield an error, then what caused it, and so on."""
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__
