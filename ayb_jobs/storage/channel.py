"""The channels on which daemons hear of due jobs, and those who wait for a job of its result."""

CHANNEL = "ayb_jobs"
RESULTS_CHANNEL = "ayb_jobs_results"
# Once the server's queue of notifications is full, behind a session that listens and sits in a transaction, nobody who
# notifies can commit. From the half on we send none, and jobs are found by polling. Both sides have one type, as
# applications send it (see `enqueueing`).
MAY_NOTIFY = "pg_notification_queue_usage() < 0.5::float8"
