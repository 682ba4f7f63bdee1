"""What operators changed by hand, over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from ayb_jobs.http.parsing import DEFAULT_PAGE, OURS, Limit
from ayb_jobs.http.requests import GUARDED, Given, documented, page_size
from ayb_jobs.http.shapes import DeedPage, answer
from ayb_jobs.model.checked import MAX_TARGET, checked_text
from ayb_jobs.storage.audit import list_deeds
from ayb_jobs.storage.requests import reading
from ayb_jobs.wire.audit import deed_text
from ayb_jobs.wire.text import page_text


def router() -> APIRouter:
    """Return the route of the audit trail."""
    routes = APIRouter(prefix="/api/admin/audit", tags=["audit"], dependencies=GUARDED)
    routes.add_api_route(
        "",
        list_all,
        summary="List changes by hand",
        dependencies=OURS,
        **documented(DeedPage, "Changes, the newest first"),
    )
    return routes


def list_all(
    services: Given,
    target: Annotated[str, Query(max_length=MAX_TARGET, description="What was changed: an id, or a name")] = "",
    limit: Limit = DEFAULT_PAGE,
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="nextBefore of the page before")] = None,
) -> Response:
    """List changes by hand, the newest first."""
    size = page_size(limit)
    wanted = checked_text(target, "target", MAX_TARGET) or None
    with reading(services.database, services.read_timeout_s) as conn:
        found = list_deeds(conn, target=wanted, before=before, limit=size)
    return answer(page_text(map(deed_text, found), nextBefore=found[-1].id if len(found) == size else None))
