"""Why jobs wait, over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from ayb_jobs.checks.why import Waits, why_job, why_waits
from ayb_jobs.errors import InvalidInput
from ayb_jobs.http.parsing import OURS
from ayb_jobs.http.requests import GUARDED, Given, documented
from ayb_jobs.http.shapes import WaitPage, answer
from ayb_jobs.model.checked import MAX_NAME, checked_id
from ayb_jobs.storage.requests import reading
from ayb_jobs.wire.text import page_text
from ayb_jobs.wire.waits import wait_text


def router() -> APIRouter:
    """Return the route that says why jobs wait."""
    routes = APIRouter(prefix="/api/admin/why", tags=["jobs"], dependencies=[*GUARDED, *OURS])
    routes.add_api_route(
        "", why, summary="Say why jobs wait", **documented(WaitPage, "Each wait, with its one reason", 404)
    )
    return routes


def why(
    services: Given,
    job: Annotated[str, Query(description="Of this job")] = "",
    queue: Annotated[str, Query(description="Of the jobs of this queue", max_length=MAX_NAME)] = "",
) -> Response:
    """Say why one job waits, why those of a queue do, or why any do; many are grouped by type and queue."""
    if job and queue:
        raise InvalidInput("give a job or a queue, not both", field="queue")
    with reading(services.database, services.read_timeout_s) as conn:
        found = Waits([why_job(conn, checked_id(job))]) if job else why_waits(conn, queue=queue or None)
    return answer(page_text(map(wait_text, found.first), atLeast=found.more))
