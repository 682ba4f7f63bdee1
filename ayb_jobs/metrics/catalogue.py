"""Every metric: its name, its labels and its meaning."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

RUN_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0)
WAIT_BUCKETS = (0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 86400.0)
LAG_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 3600.0)

Labels = tuple[str, ...]


class Kind(StrEnum):
    """What sort of number a metric is."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: what sort of number, what it tells, which labels it bears, and a histogram's upper bounds."""

    kind: Kind
    meaning: str
    labels: Labels = ()
    buckets: tuple[float, ...] = ()


CATALOGUE: Mapping[str, Metric] = {
    "ayb_jobs_enqueued": Metric(Kind.COUNTER, "Jobs that this daemon enqueued, by its API or its scheduler.", ("source",)),
    "ayb_jobs_leased": Metric(Kind.COUNTER, "Attempts that this daemon leased.", ("job_type",)),
    "ayb_jobs_completed": Metric(Kind.COUNTER, "Jobs that completed.", ("job_type",)),
    "ayb_jobs_failed": Metric(Kind.COUNTER, "Jobs that failed for good, by how their last attempt ended.", ("job_type", "reason")),
    "ayb_jobs_retried": Metric(Kind.COUNTER, "Attempts that failed and that another attempt follows.", ("job_type", "reason")),
    "ayb_jobs_snoozed": Metric(Kind.COUNTER, "Attempts whose handler asked to run later.", ("job_type",)),
    "ayb_jobs_canceled": Metric(Kind.COUNTER, "Running jobs that were canceled, by their handler or on request.", ("job_type",)),
    "ayb_jobs_released": Metric(Kind.COUNTER, "Jobs released unstarted, with their attempt."),
    "ayb_jobs_recovered": Metric(Kind.COUNTER, "Lost leases that this daemon found, by the job's next state.", ("state",)),
    "ayb_jobs_stale_settles_refused": Metric(Kind.COUNTER, "Writes that were refused since their lease was lost, by kind of write.", ("during",)),
    "ayb_jobs_removals_refused": Metric(Kind.COUNTER, "Batches of completed jobs that could not be removed."),
    "ayb_jobs_executions_dropped": Metric(Kind.COUNTER, "Attempts whose row the database dropped in silence."),
    "ayb_jobs_settlements_refused": Metric(Kind.COUNTER, "Endings that the database refused to record."),
    "ayb_jobs_overran": Metric(Kind.COUNTER, "Handlers that ran past their timeout.", ("job_type",)),
    "ayb_jobs_children_resolved": Metric(
        Kind.COUNTER, "Jobs that waited for others, and were freed or canceled with one.", ("outcome",)
    ),
    "ayb_jobs_batches_done": Metric(
        Kind.COUNTER, "Batches whose members have all ended: succeeded, or failed if one did not complete.", ("outcome",)
    ),
    "ayb_jobs_event_loop_blocked": Metric(
        Kind.COUNTER, "Steps of async handlers that blocked the event loop for over 0.1 s.", ("job_type",)
    ),
    "ayb_jobs_records_processed": Metric(Kind.COUNTER, "Records that handlers say they processed.", ("job_type",)),
    "ayb_jobs_rows_pruned": Metric(Kind.COUNTER, "Rows that retention removed.", ("table",)),
    "ayb_jobs_run_duration_seconds": Metric(Kind.HISTOGRAM, "How long handlers ran.", ("job_type",), RUN_BUCKETS),
    "ayb_jobs_queue_wait_seconds": Metric(Kind.HISTOGRAM, "Time from a job's due time to its lease.", ("job_type",), WAIT_BUCKETS),
    "ayb_jobs_schedule_lag_seconds": Metric(Kind.HISTOGRAM, "Time from a schedule's due time to its fire.", (), LAG_BUCKETS),
    "ayb_jobs_schedule_fires": Metric(Kind.COUNTER, "Nominal fires of schedules, by outcome.", ("outcome",)),
    "ayb_jobs_loop_failures": Metric(Kind.COUNTER, "Turns of a loop that failed.", ("loop",)),
    "ayb_jobs_api_failures": Metric(Kind.COUNTER, "How often HTTP could not be served, or ended by itself."),
    "ayb_jobs_rows_unprunable": Metric(Kind.GAUGE, "Rows that retention could not remove when it last tried.", ("table",)),
    "ayb_jobs_rows_set_aside": Metric(Kind.COUNTER, "Rows that a loop could not handle and set aside.", ("loop",)),
    "ayb_jobs_loop_age_seconds": Metric(Kind.GAUGE, "Time since a loop last made progress.", ("loop",)),
    "ayb_jobs_database_errors": Metric(Kind.COUNTER, "Database errors, by the class of their SQLSTATE.", ("sqlstate_class",)),
    "ayb_jobs_api_errors": Metric(Kind.COUNTER, "Requests that failed for a reason that is not their caller's."),
    "ayb_jobs_unclaimable": Metric(Kind.GAUGE, "Due jobs of types that this daemon does not know, of those that it looks at.", ("job_type",)),
    "ayb_jobs_slots": Metric(Kind.GAUGE, "Handler slots, by what they do.", ("state",)),
    "ayb_jobs_queue_depth": Metric(Kind.GAUGE, "Queued jobs by queue, due or not; counted up to 100,000.", ("queue",)),
    "ayb_jobs_queue_depth_cut": Metric(Kind.GAUGE, "1 if more are queued than were counted: depth and age of the oldest are at least so much."),
    "ayb_jobs_running": Metric(Kind.GAUGE, "Jobs that run now, on any daemon."),
    "ayb_jobs_oldest_ready_age_seconds": Metric(Kind.GAUGE, "How long the oldest due job has waited."),
    "ayb_jobs_oldest_startable_age_seconds": Metric(Kind.GAUGE, "How long the oldest due job has waited that waits for nothing but a slot."),
    "ayb_jobs_oldest_expired_lease_age_seconds": Metric(Kind.GAUGE, "How long ago the oldest expired lease ran out."),
    "ayb_jobs_paused": Metric(Kind.GAUGE, "Queues and job types that are paused.", ("kind",)),
    "ayb_jobs_longest_pause_seconds": Metric(Kind.GAUGE, "For how long the oldest pause has held.", ("kind",)),
    "ayb_jobs_batches_unfinished": Metric(Kind.GAUGE, "Batches that are sealed and not done, up to 10,000."),
    "ayb_jobs_limit_waiting": Metric(Kind.GAUGE, "Jobs that wait under a limit, up to 10,000.", ("limit",)),
    "ayb_jobs_limit_running": Metric(Kind.GAUGE, "Jobs that run under a limit.", ("limit",)),
    "ayb_jobs_limit_tokens": Metric(Kind.GAUGE, "Starts that a limit's rate allows at once.", ("limit",)),
    "ayb_jobs_workers": Metric(Kind.GAUGE, "Daemons that are alive."),
    "ayb_jobs_schedules_overdue": Metric(Kind.GAUGE, "Enabled schedules that did not do what was expected of them."),
    "ayb_jobs_database_up": Metric(Kind.GAUGE, "1 if the figures from the database came in time, else 0."),
    "ayb_jobs_listener_failures": Metric(Kind.COUNTER, "Events that a listener of the daemon failed on."),
    "ayb_jobs_build_info": Metric(Kind.GAUGE, "Always 1; the label tells the version.", ("version",)),
}  # fmt: skip
