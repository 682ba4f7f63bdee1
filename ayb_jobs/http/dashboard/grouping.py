"""Failures grouped by type and error, as the overview and their own page show them."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Response

from ayb_jobs.http.dashboard.shell import Visit, Visitor, query
from ayb_jobs.http.dashboard.words import SPANS
from ayb_jobs.model.filters import Filter
from ayb_jobs.model.words import count_words
from ayb_jobs.storage.clock import now
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.failures import FailureGroup, GroupedFailures, group_failures
from ayb_jobs.storage.queue.jobs import get_job


def add_to(routes: APIRouter) -> None:
    """Add the page of failures."""
    routes.add_api_route("/failures", failures, methods=["GET"])


def failures(visit: Visitor) -> Response:
    """Show what fails, grouped."""
    seen = visit.chosen("seen", SPANS, "day")
    wanted = Filter(
        type=visit.asked("type") or None, queue=visit.asked("queue") or None, error=visit.asked("error") or None
    )
    with visit.reading() as conn:
        at = now(conn)
        failures_ = group_failures(conn, wanted, span=SPANS[seen][1])
        example = _example(conn, visit, failures_.groups)
    return visit.page(
        "failures.html",
        now=at,
        title="Failures",
        spans=[(name, word) for name, (word, _) in SPANS.items()],
        seen=seen,
        wanted=wanted,
        types=sorted({each.type for each in failures_.groups}),
        is_filtered=any((wanted.type, wanted.queue, wanted.error)),
        example=example,
        span_word=f"In the {SPANS[seen][0]}" if seen != "ever" else "Since the first",
        **context(failures_, seen=seen, wanted=wanted),
    )


def _example(conn: Connection, visit: Visit, groups: Sequence[FailureGroup]) -> Any:
    """Return one job of the group that was asked for, or of the largest, to be shown whole."""
    known = {each.example for each in groups}
    chosen = visit.asked("show")
    if not groups:
        return None
    return get_job(conn, chosen if chosen in known else groups[0].example)


def context(
    found: GroupedFailures, *, seen: str, wanted: Filter | None = None, most: int | None = None
) -> dict[str, Any]:
    """Return what the table of groups needs: each group's list, its example, and the page that retries it.

    Up to `most` groups are shown; `whole` says how many there are, and how many jobs failed.
    """
    base = {"type": wanted.type, "queue": wanted.queue, "error": wanted.error} if wanted else {}
    return {
        "groups": found.groups[:most],
        "whole": f"{count_words(found.jobs, 'job', cut=found.cut)}, {count_words(found.group_count, 'error', cut=found.cut)}",
        "left_out": max(0, found.group_count - len(found.groups[:most])),
        "is_cut": found.cut,
        "list_of": lambda each: (
            f"/jobs?{query(state='failed', type=each.type, queue=base.get('queue'), alike=each.error)}"
        ),
        "show_of": lambda each: f"/failures?{query(seen=seen, **base, show=each.example)}#main",
        "retry_of": lambda each: (
            "/jobs/bulk?" + query(action="retry", **{**base, "type": each.type, "alike": each.error})
        ),
    }
