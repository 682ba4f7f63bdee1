"""Every invariant, by its name, and the check of them all."""

from collections.abc import Callable, Mapping

from ayb_jobs.lab.checker import of_batches, of_families, of_fleets, of_jobs, of_kinds, of_limits, of_pauses
from ayb_jobs.lab.checker.evidence import Evidence, Findings, Violation

INVARIANTS: Mapping[str, Callable[[Evidence], Findings]] = {
    invariant.__name__: invariant
    for invariant in (
        of_jobs.acknowledged_enqueue_lost,
        of_jobs.change_after_completion,
        of_jobs.stale_write_accepted,
        of_jobs.run_without_lease,
        of_jobs.completed_without_its_run,
        of_kinds.ran_elsewhere_without_lease,
        of_jobs.transaction_not_once,
        of_jobs.attempts_out_of_bounds,
        of_jobs.illegal_transition,
        of_jobs.unexplained_run,
        of_jobs.ran_before_due,
        of_fleets.schedule_fired_twice,
        of_fleets.schedule_fire_missing,
        of_fleets.recovered_late,
        of_jobs.never_ended,
        of_jobs.failed_early,
        of_fleets.notifications_unheard,
        of_jobs.acknowledged_cancel_undone,
        of_families.child_before_parent,
        of_families.child_stuck,
        of_families.child_not_held,
        of_batches.callback_not_once,
        of_limits.limit_exceeded,
        of_limits.rate_exceeded,
        of_limits.place_leaked,
        of_pauses.paused_but_started,
        of_pauses.unique_broken,
        of_fleets.stop_used_up_an_attempt,
        of_fleets.rows_do_not_add_up,
        of_fleets.metrics_do_not_add_up,
        of_fleets.stop_not_graceful,
        of_fleets.noticed_late,
    )
}


def check(evidence: Evidence) -> list[Violation]:
    """Return every broken invariant, each with the job that shows it."""
    return [
        Violation(name, message, job_id)
        for name, invariant in INVARIANTS.items()
        for message, job_id in invariant(evidence)
    ]
