"""The job that a schedule made while an earlier one of it was to end canceled: it waits for that one's end.

It is queued beyond all times that any job is due. What ends the earlier job frees it, in the same statement. That
statement always begins after the request was committed, and with it the waiting job, so it sees it.
"""

AFTER_THE_CANCELED = "timestamptz '9999-12-31 00:00:00+00'"
# For a statement whose `settled` are jobs that ended, with their schedules.
FREE_SUCCESSORS = f"""
        UPDATE _ayb_jobs AS successor
        SET run_at = greatest(now(), successor.scheduled_for), updated_at = now()
        FROM settled
        WHERE successor.schedule_id = settled.schedule_id AND successor.schedule_id IS NOT NULL
            AND settled.state = 'canceled' AND successor.state = 'queued' AND successor.run_at = {AFTER_THE_CANCELED}
        RETURNING successor.id
"""
