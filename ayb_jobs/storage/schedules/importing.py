"""Reading the tables of other schedulers."""

import json
from typing import Any

import psycopg

from ayb_jobs.errors import NotFound
from ayb_jobs.model.schedules.importing.celery_beat import BeatEntry, interval_s
from ayb_jobs.model.schedules.importing.pg_cron import PgCronJob
from ayb_jobs.storage.database import Connection

PG_CRON_JOBS = """
    SELECT jobid, to_jsonb(job) ->> 'jobname', schedule, command, database, username, active
    FROM cron.job AS job
    ORDER BY jobid
"""
PG_CRON_TIMEZONE = "SELECT coalesce(current_setting('cron.timezone', true), 'GMT')"


def pg_cron_jobs(conn: Connection) -> tuple[list[PgCronJob], str]:
    """Return pg_cron's jobs and its time zone. Raises `NotFound` where the database has no pg_cron."""
    try:
        jobs = [PgCronJob(*row) for row in conn.execute(PG_CRON_JOBS)]
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        raise NotFound("this database has no table cron.job; name the one in which pg_cron runs") from None
    row = conn.execute(PG_CRON_TIMEZONE).fetchone()
    return jobs, str(row[0]) if row else "GMT"


BEAT_TASKS = """
    SELECT periodic.name, periodic.task, periodic.args, periodic.kwargs, periodic.queue, periodic.enabled,
        crontab.minute, crontab.hour, crontab.day_of_week, crontab.day_of_month, crontab.month_of_year,
        to_jsonb(crontab) ->> 'timezone', every.every, every.period,
        coalesce((to_jsonb(periodic) ->> 'one_off')::boolean, false),
        to_jsonb(periodic) ->> 'start_time', to_jsonb(periodic) ->> 'expires'
    FROM django_celery_beat_periodictask AS periodic
        LEFT JOIN django_celery_beat_crontabschedule AS crontab ON crontab.id = periodic.crontab_id
        LEFT JOIN django_celery_beat_intervalschedule AS every ON every.id = periodic.interval_id
    ORDER BY periodic.name
"""


def beat_tasks(conn: Connection) -> list[BeatEntry]:
    """Return django-celery-beat's periodic tasks. Raises `NotFound` where the database has none of its tables."""
    try:
        rows = conn.execute(BEAT_TASKS).fetchall()
    except psycopg.errors.UndefinedTable:
        raise NotFound(
            "this database has no django_celery_beat tables; give a settings file, or their database"
        ) from None
    return [
        BeatEntry(
            name=name,
            task=task,
            crontab=None
            if minute is None
            else {
                "minute": minute,
                "hour": hour,
                "day_of_week": weekday,
                "day_of_month": day,
                "month_of_year": month,
            },
            every_s=None if every is None else interval_s(every, period),
            timezone=timezone,
            args=_decoded(args, []),
            kwargs=_decoded(kwargs, {}),
            queue=queue,
            enabled=enabled,
            once=once,
            notes=tuple(
                f"{words} {instant} there; here it fires from now on, until it is disabled"
                for words, instant in (("it starts at", start_time), ("it ends at", expires))
                if instant is not None
            ),
        )
        for (
            name, task, args, kwargs, queue, enabled, minute, hour, weekday, day, month, timezone, every, period,
            once, start_time, expires,
        ) in rows
    ]  # fmt: skip


def _decoded(text: str | None, otherwise: Any) -> Any:
    try:
        return json.loads(text or "null") or otherwise
    except (ValueError, RecursionError):
        return otherwise
