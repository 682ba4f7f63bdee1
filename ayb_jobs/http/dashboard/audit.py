"""What was changed by hand."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from fastapi import APIRouter, Response

from ayb_jobs.http.dashboard.shell import Visitor, query
from ayb_jobs.model.actions import Deed
from ayb_jobs.model.checked import MAX_TARGET, checked_text
from ayb_jobs.model.words import count_words
from ayb_jobs.storage.audit import list_deeds
from ayb_jobs.storage.clock import now

PAGE = 50
MOST_CHANGES = 6
LONGEST = 100
# What changes with everything, and tells nothing.
UNTOLD = frozenset({"updated_at", "lease_id", "execution_id", "planned", "watched_since", "id", "ids", "definition"})

# Which page shows what was changed: one of its own, by its id, or one on which all of its kind stand.
PAGES: Mapping[str, str] = {"job": "jobs", "schedule": "schedules", "batch": "batches"}
DELETED = "schedule.delete"
BY_NAME: Mapping[str, str] = {"queue": "/queues", "type": "/queues", "limit": "/queues", "daemon": "/daemons"}


class Change(NamedTuple):
    """A field that was changed."""

    name: str
    before: str
    after: str


class Shown(NamedTuple):
    """A deed as it is listed."""

    at: Any
    actor: str
    word: str
    href: str
    target: str
    name: str
    changes: list[Change]
    note: str


def add_to(routes: APIRouter) -> None:
    """Add the audit trail."""
    routes.add_api_route("/audit", audit, methods=["GET"])


def audit(visit: Visitor) -> Response:
    """List changes by hand, the newest first."""
    target, before = visit.asked("target", MAX_TARGET), visit.number("before")
    with visit.reading() as conn:
        at = now(conn)
        deeds = list_deeds(
            conn,
            target=checked_text(target, "target", MAX_TARGET) or None,
            before=before,
            limit=PAGE,
        )
    more = f"/audit?{query(target=target, before=deeds[-1].id)}" if len(deeds) == PAGE else ""
    return visit.page(
        "audit.html", now=at, title="Audit", target=target, deeds=[shown(deed) for deed in deeds], next_href=more
    )


def shown(deed: Deed) -> Shown:
    """Return a deed with what it was about and what it changed."""
    before, after = _object(deed.before_text), _object(deed.after_text)
    kind, _, verb = deed.action.partition(".")
    both = {**before, **after}
    name = str(both.get("name") or "") if kind == "schedule" else str(both.get("type") or "")
    ids = both.get("ids")
    if isinstance(ids, list):
        name = f"{count_words(len(ids), 'job')}{f' {name}' if name else ''}"
    elif deed.action == "schedule.trigger":
        name = ""
    return Shown(
        at=deed.at,
        actor=deed.actor,
        word=f"{kind} {verb}".replace("jobs", "many jobs"),
        href=_where(kind, deed) if deed.target else "",
        target=deed.target or "",
        name=name[:200] or (deed.target or "" if kind in BY_NAME else ""),
        changes=list(_changes(before, after))[:MOST_CHANGES] if before and after else [],
        note=_note(deed, before, after),
    )


def _where(kind: str, deed: Deed) -> str:
    """Return the page of what was changed; empty if it has none, or is gone."""
    if kind in BY_NAME:
        return BY_NAME[kind]
    return f"/{PAGES[kind]}/{quote(deed.target or '', safe='')}" if kind in PAGES and deed.action != DELETED else ""


def _note(deed: Deed, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    if deed.action == "schedule.trigger":
        return f"made job {after.get('id', '')}"
    given = {
        name: value for name, value in before.items() if name in {"queue", "key", "since", "until", "error", "alike"}
    }
    if "ids" in before and any(given.values()):
        return "filter: " + ", ".join(f"{name} {value}" for name, value in given.items() if value)
    return ""


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for name in sorted({*before, *after} - UNTOLD):
        if name in after and before.get(name) != after[name]:
            yield Change(name, _text(before.get(name)), _text(after[name]))


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _object(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
