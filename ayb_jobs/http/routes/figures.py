"""What the dashboard is drawn from: failures grouped by type and error, and what ended and waited over time."""

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Response

from ayb_jobs.http.parsing import OURS
from ayb_jobs.http.requests import GUARDED, Given, documented
from ayb_jobs.http.shapes import Shape, answer
from ayb_jobs.model.checked import MAX_NAME
from ayb_jobs.model.filters import MAX_ERROR, Filter
from ayb_jobs.storage.queue.failures import FailureGroup, group_failures
from ayb_jobs.storage.queue.minutes import COUNTED, list_levels, list_minutes
from ayb_jobs.storage.requests import reading
from ayb_jobs.wire.text import object_text, page_text

MOST_HOURS = 24 * 8
Hours = Annotated[int, Query(ge=1, le=MOST_HOURS, description="How far back")]


class FailureShape(Shape):
    """Failed jobs of one type whose errors differ in numbers and ids alone, for which `error` has `<n>`."""

    type: str
    error: str
    count: int
    first_at: datetime
    last_at: datetime
    example_id: str


class FailurePage(Shape):
    """The largest groups of failed jobs; `jobs` failed in `groups` groups, those that are not shown included.

    `atLeast` tells that not all failed jobs were looked at: each of these counts stands for at least so many.
    """

    items: list[FailureShape]
    count: int
    jobs: int
    groups: int
    at_least: bool


class MinuteShape(Shape):
    """What ended from `at` on, for one step: jobs that completed and failed, attempts that others follow, records."""

    at: datetime
    completed: int
    failed: int
    retried: int
    records: int


class MinutePage(Shape):
    """What ended, the earliest first, without steps in which nothing did."""

    items: list[MinuteShape]
    count: int


class LevelShape(Shape):
    """How many jobs were due and ran, and for how long the one that waited longest had been due.

    `atLeast` tells that not all were counted: so many at least were due, or ran.
    """

    at: datetime
    waiting: int
    running: int
    oldest_wait_sec: float
    at_least: bool


class LevelPage(Shape):
    """Levels, measured once a minute, the earliest first."""

    items: list[LevelShape]
    count: int


def router() -> APIRouter:
    """Return the routes of figures."""
    routes = APIRouter(tags=["figures"], dependencies=[*GUARDED, *OURS])
    routes.add_api_route(
        "/api/admin/jobs/failures",
        failures,
        summary="Group failed jobs by type and error",
        **documented(FailurePage, "Groups of the 5,000 newest failed jobs that match, among the 20,000 newest"),
    )
    routes.add_api_route(
        "/api/admin/stats/minutes", minutes, summary="What ended over time", **documented(MinutePage, "Sums by step")
    )
    routes.add_api_route(
        "/api/admin/stats/levels", levels, summary="What waited and ran over time", **documented(LevelPage, "Levels")
    )
    return routes


def failures(
    services: Given,
    hours: Hours = 24,
    type: Annotated[str, Query(max_length=MAX_NAME)] = "",
    queue: Annotated[str, Query(max_length=MAX_NAME)] = "",
    error: Annotated[str, Query(max_length=MAX_ERROR, description="A part of the last error")] = "",
) -> Response:
    """Group the jobs that failed lately and are failed still; retry a group by a bulk call with its `alike`."""
    wanted = Filter(type=type or None, queue=queue or None, error=error or None)
    with reading(services.database, services.read_timeout_s) as conn:
        found = group_failures(conn, wanted, span=timedelta(hours=hours))
    return answer(
        page_text(map(_group_text, found.groups), jobs=found.jobs, groups=found.group_count, atLeast=found.cut)
    )


def _group_text(group: FailureGroup) -> str:
    return object_text(
        {
            "type": group.type,
            "error": group.error,
            "count": group.jobs,
            "firstAt": group.first_at,
            "lastAt": group.last_at,
            "exampleId": group.example,
        }
    )


def minutes(
    services: Given,
    hours: Hours = 1,
    step_min: Annotated[int, Query(alias="stepMin", ge=1, le=1440, description="Minutes of one step")] = 1,
    type: Annotated[str, Query(max_length=MAX_NAME)] = "",
) -> Response:
    """Sum what ended, by step; each daemon adds what it counted some seconds later."""
    wanted = Filter(type=type or None)
    with reading(services.database, services.read_timeout_s) as conn:
        found = list_minutes(conn, span=timedelta(hours=hours), step=timedelta(minutes=step_min), job_type=wanted.type)
    return answer(page_text(object_text(each._asdict()) for each in found))


def levels(services: Given, hours: Hours = 1) -> Response:
    """List how much waited and ran."""
    with reading(services.database, services.read_timeout_s) as conn:
        found = list_levels(conn, span=timedelta(hours=hours))
    return answer(
        page_text(
            object_text(
                {
                    "at": each.at,
                    "waiting": each.waiting,
                    "running": each.running,
                    "oldestWaitSec": each.oldest_wait_s,
                    "atLeast": each.cut or max(each.waiting, each.running) >= COUNTED,
                }
            )
            for each in found
        )
    )
