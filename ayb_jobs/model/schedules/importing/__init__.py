"""Schedules of other schedulers, read as ours: crontab, pg_cron and Celery beat.

Each reader yields `Imported` values, whose notes say what means something else here and what was left behind.
"""
