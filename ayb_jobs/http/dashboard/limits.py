"""Limits: what runs and waits under each and its keys, setting and removing them."""

import json
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Response

from ayb_jobs.errors import Conflict, InvalidInput, NotFound
from ayb_jobs.http.dashboard import charts
from ayb_jobs.http.dashboard.shell import Blank, Fields, Visit, Visitor, query
from ayb_jobs.http.dashboard.texts import Html
from ayb_jobs.http.dashboard.typing_in import whole_number
from ayb_jobs.http.edge.auth import Scope
from ayb_jobs.model.limits import RATE_HELP, Limit, NewLimit
from ayb_jobs.model.words import as_sentence, counted, span_words
from ayb_jobs.operations import limits as operations
from ayb_jobs.storage.clock import now
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.limits import COUNTED_OF_KEY, MOST_KEYS, LimitKey, find_limit, list_keys, list_limits

NUMBERS = ("max_running", "key_max_running", "burst", "key_burst")
FORM = ("name", "types", "key_field", "rate", "key_rate", *NUMBERS)
PERCENT = 100


def add_to(routes: APIRouter) -> None:
    """Add setting and removing limits; they are listed beside the queues."""
    routes.add_api_route("/queues/limit", ask, methods=["GET"])
    routes.add_api_route("/queues/limit", put, methods=["POST"])
    routes.add_api_route("/queues/limit/remove", ask_remove, methods=["GET"])
    routes.add_api_route("/queues/limit/remove", remove, methods=["POST"])


def limits_context(conn: Connection, chosen: str) -> dict[str, Any]:
    """Return what the lists of limits, and of the keys of one that was chosen, need."""
    found = list_limits(conn)
    limit = next((each for each in found if each.new.name == chosen), None)
    return {
        "limits": [_shown(each) for each in found],
        "chosen": limit.new.name if limit else "",
        "keys": [_key(each, limit) for each in list_keys(conn, limit.new.name)] if limit else [],
        "most_keys": MOST_KEYS,
    }


def _shown(limit: Limit) -> dict[str, Any]:
    new = limit.new
    has_keys = new.key_max_running is not None or new.key_rate is not None
    return {
        "name": new.name,
        "about": f"{', '.join(new.types)}{f' by {new.key_field}' if new.key_field else ''}: {limit.words}",
        "running": _taken(limit.running, new.max_running),
        "tokens": "–" if limit.tokens is None else f"{limit.tokens:,} of {new.burst:,}",
        "waiting": counted(limit.waiting, most=None, cut=limit.cut),
        "unconfirmed": ", ".join(limit.waiting_for),
        "keys_href": f"/queues?{query(limit=new.name)}#keys" if has_keys else "",
        "edit_href": f"/queues/limit?{query(name=new.name)}",
        "remove_href": f"/queues/limit/remove?{query(name=new.name)}",
    }


def _key(key: LimitKey, limit: Limit) -> dict[str, Any]:
    return {
        "name": key.key,
        "running": _taken(key.running, limit.new.key_max_running),
        "waiting": counted(key.waiting, most=COUNTED_OF_KEY),
        "held": "–" if key.held_s is None else span_words(key.held_s),
    }


def _taken(running: int, most: int | None) -> Html:
    """Return how many places are taken, with a bar if there are so many at most."""
    if most is None:
        return Html("{}, no maximum").format(f"{running:,}")
    words = f"{running:,} of {most:,}"
    percent = running / most * PERCENT if most else PERCENT
    bar = charts.gauge(percent, f"{words} places are taken", "f-warn" if percent >= PERCENT else "f-run")
    return Html('<div class="gauge"><span>{}</span>{}</div>').format(words, bar)


def ask(visit: Visitor) -> Response:
    """Show the form of a limit, empty or with what it says."""
    visit.need(Scope.OPERATE)
    name = visit.asked("name", 100)
    if not name:
        return _form(visit, Blank(), is_new=True)
    with visit.reading() as conn:
        found = _found(conn, name)
    return _form(visit, typed_of(found.new), is_new=False)


def typed_of(new: NewLimit) -> Blank:
    """Return a limit's fields as its form shows them: its types one a line."""
    typed = Blank(name=new.name, types="\n".join(new.types))
    for field in FORM[2:]:
        value = getattr(new, field)
        typed[field] = "" if value is None or (field.endswith("burst") and value == 1) else str(value)
    return typed


def _shown_now(visit: Visit, name: str) -> str:
    """Return what the form of a limit would show now, as one text; an empty one if it is gone."""
    with visit.reading() as conn:
        found = find_limit(conn, name)
    return "" if found is None else json.dumps(typed_of(found.new))


def _form(
    visit: Visit,
    typed: Blank,
    *,
    is_new: bool,
    wrong: Mapping[str, str] | None = None,
    shown: str | None = None,
    status: int = 200,
) -> Response:
    return visit.page(
        "limit.html",
        status=status,
        title="Set a limit" if is_new else f"Change the limit {typed['name']}",
        typed=typed,
        shown=json.dumps(typed) if shown is None else shown,
        wrong=Blank(wrong or {}),
        is_new=is_new,
        types=visit.services.registry.names(),
        rate_help=as_sentence(RATE_HELP),
    )


def put(visit: Visitor, fields: Fields) -> Response:
    """Make a limit or change the one of its name, or tell what is wrong with what was typed."""
    visit.need(Scope.OPERATE)
    typed = Blank({name: fields.get(name, "").strip() for name in FORM})
    if "change" in fields and fields.get("shown") != (current := _shown_now(visit, typed["name"])):
        wrong = {"form": "Somebody changed or removed this limit meanwhile. Set it again to have what is below."}
        return _form(visit, typed, is_new=False, wrong=wrong, shown=current, status=409)
    try:
        new = NewLimit(**_values(typed))
        with visit.acting(Scope.OPERATE) as (conn, actor):
            operations.put(conn, new, actor=actor)
    except (InvalidInput, Conflict) as error:
        field = error.field if isinstance(error, InvalidInput) else "types"
        wrong = {field if field in FORM else "form": as_sentence(str(error))}
        return _form(visit, typed, is_new="change" not in fields, wrong=wrong, shown=fields.get("shown"), status=400)
    return visit.onward("/queues", "limit_set")


def _values(typed: Blank) -> dict[str, Any]:
    """Return what was typed by the names of `NewLimit`; what is empty was not given. Raises `InvalidInput`."""
    values: dict[str, Any] = {name: typed[name] or None for name in ("key_field", "rate", "key_rate")}
    values |= {name: whole_number(typed[name], name) for name in NUMBERS}
    types = list(dict.fromkeys(line.strip() for line in typed["types"].splitlines() if line.strip()))
    return {"name": typed["name"], "types": types} | {
        name: value for name, value in values.items() if value is not None
    }


def ask_remove(visit: Visitor) -> Response:
    """Ask whether a limit is meant to go."""
    visit.need(Scope.OPERATE)
    with visit.reading() as conn:
        at = now(conn)
        found = _found(conn, visit.asked("name", 100))
    return visit.page(
        "ask.html",
        now=at,
        title=f"Remove the limit {found.new.name}?",
        question="Remove this limit?",
        about=f"{found.new.name}: {', '.join(found.new.types)}, {found.words}.",
        effect="What waits under it waits as other jobs do, and what runs goes on. A limit that the settings of a daemon "
        "define is made again when it next starts.",
        action="/queues/limit/remove",
        fields={"name": found.new.name},
        word="Remove this limit",
        back="/queues",
    )


def remove(visit: Visitor, fields: Fields) -> Response:
    """Remove a limit."""
    with visit.acting(Scope.OPERATE) as (conn, actor):
        operations.remove(conn, fields.get("name", ""), actor=actor)
    return visit.onward("/queues", "limit_removed")


def _found(conn: Connection, name: str) -> Limit:
    found = find_limit(conn, name)
    if found is None:
        raise NotFound(f"there is no limit {name}")
    return found
