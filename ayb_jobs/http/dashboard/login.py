"""Logging in and out, and choosing a time zone."""

from collections.abc import Mapping
from typing import Annotated
from zoneinfo import available_timezones

from fastapi import APIRouter, Depends, Request, Response

from ayb_jobs.errors import InvalidInput
from ayb_jobs.http.dashboard.clock import COOKIE as ZONE_COOKIE
from ayb_jobs.http.dashboard.forms import read_form
from ayb_jobs.http.dashboard.session import COOKIE
from ayb_jobs.http.dashboard.shell import Fields, Guest, Visit, Visitor
from ayb_jobs.model.schedules.zones import find_zone

YEAR_S = 365 * 86400


def add_to(routes: APIRouter) -> None:
    """Add the pages of logging in."""
    routes.add_api_route("/login", ask, methods=["GET"])
    routes.add_api_route("/login", log_in, methods=["POST"])
    routes.add_api_route("/logout", log_out, methods=["POST"])
    routes.add_api_route("/zone", ask_zone, methods=["GET"])
    routes.add_api_route("/zone", choose_zone, methods=["POST"])


def ask(visit: Guest) -> Response:
    """Ask for a token."""
    if visit.session is not None:
        return visit.onward(local(visit.asked("next")))
    return _form(visit, next_=visit.asked("next"))


async def sent(request: Request) -> Mapping[str, str]:
    """Return a form that nobody is logged in for yet; the guard has seen where it was sent from."""
    return read_form(await request.body())


def log_in(visit: Guest, fields: Annotated[Mapping[str, str], Depends(sent)]) -> Response:
    """Open a session for whoever shows a token."""
    to = local(fields.get("next", ""))
    cookie = visit.pages.sessions.open(fields.get("token", ""))
    if visit.session is not None and visit.request.app.state.authenticator.open:
        return visit.onward(to)
    if cookie is None:
        wrong = "No token is like this one. Tokens stand in the daemon’s configuration under [api]."
        return _form(visit, next_=to, wrong=wrong, status=403)
    answer = visit.onward(to)
    answer.set_cookie(COOKIE, cookie, httponly=True, samesite="strict", path="/", secure=is_secure(visit.request))
    return answer


def log_out(visit: Guest, _: Fields) -> Response:
    """End the session in this browser."""
    answer = visit.onward("/login")
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict", path="/")
    return answer


def ask_zone(visit: Visitor) -> Response:
    """Ask for a time zone."""
    return _zone_form(visit, visit.zone)


def choose_zone(visit: Visitor, fields: Fields) -> Response:
    """Keep a time zone in this browser."""
    zone = fields.get("zone", "").strip() or "UTC"
    try:
        find_zone(zone)
    except InvalidInput as error:
        return _zone_form(visit, zone, str(error), status=400)
    answer = visit.onward("/", "zone")
    answer.set_cookie(ZONE_COOKIE, zone, max_age=YEAR_S, httponly=True, samesite="strict", path="/")
    return answer


def local(path: str) -> str:
    """Return a path of ours to go on to; the overview for any other address."""
    is_ours = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isascii() and path.isprintable()
    return path if is_ours and "\\" not in path else "/"


def is_secure(request: Request) -> bool:
    """Tell whether the browser came by TLS, which may end before this daemon: then the form's origin says so."""
    return request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")


def _form(visit: Visit, *, next_: str, wrong: str = "", status: int = 200) -> Response:
    return visit.page("login.html", status=status, title="Log in", next=next_, wrong=wrong)


def _zone_form(visit: Visit, typed: str, wrong: str = "", status: int = 200) -> Response:
    zones = sorted(available_timezones())
    return visit.page("zone.html", status=status, title="Time zone", typed=typed, wrong=wrong, zones=zones)
