"""What every page shares: who visits, what they may do, how things stand, and how a page is rendered."""

import secrets
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Request, Response
from fastapi.responses import RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

import ayb_jobs
from ayb_jobs.checks.verdict import Verdict
from ayb_jobs.errors import InvalidInput
from ayb_jobs.http.acting import acting
from ayb_jobs.http.dashboard import charts
from ayb_jobs.http.dashboard.assets import Assets
from ayb_jobs.http.dashboard.clock import COOKIE as ZONE_COOKIE
from ayb_jobs.http.dashboard.clock import Clock, chosen_zone
from ayb_jobs.http.dashboard.forms import once_key, read_form
from ayb_jobs.http.dashboard.packing import VARY, packed
from ayb_jobs.http.dashboard.session import COOKIE, Session, Sessions
from ayb_jobs.http.dashboard.shared import Shared
from ayb_jobs.http.dashboard.standing import Standing
from ayb_jobs.http.dashboard.texts import Exact, visible
from ayb_jobs.http.dashboard.words import DONE, FLAGS, MOODS, SECTIONS, TOLD
from ayb_jobs.http.edge.auth import Scope
from ayb_jobs.http.edge.problems import NOT_ENABLED, Refused
from ayb_jobs.http.services import Services
from ayb_jobs.model.instants import instant_text
from ayb_jobs.model.words import count_words, counted, quoted, span_words
from ayb_jobs.operations.acting import Actor
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.requests import reading

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",  # without one, a browser says of no form where it was sent from
    "Cross-Origin-Opener-Policy": "same-origin",
}
SERVER_ERROR = 500
LONGEST_COUNT = 10
# The longest number of an attempt or of a deed.
DIGITS = 18


class Blank(dict[str, str]):
    """Texts by name; what is missing is empty."""

    def __missing__(self, _: str) -> str:
        return ""


@cache
def templates() -> Environment:
    """Return the templates: made once, since they hold nothing of an application and take long to compile."""
    made = Environment(
        loader=PackageLoader("ayb_jobs.http.dashboard"),
        autoescape=True,
        finalize=visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters["exact"] = Exact
    return made


@dataclass(frozen=True, slots=True)
class Pages:
    """What the dashboard stands on, made once for an application.

    All pages tell the verdict of `pulse`; the first page is drawn from `standing`, which has a verdict as old.
    """

    services: Services
    sessions: Sessions
    pulse: Shared[Verdict]
    standing: Shared[Standing]
    assets: Assets = field(default_factory=Assets)

    def forget(self) -> None:
        """Have how things stand asked anew, since somebody has just changed something."""
        self.pulse.forget()
        self.standing.forget()


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One request of somebody who looks at a page."""

    pages: Pages
    request: Request
    session: Session | None
    zone: str

    @property
    def services(self) -> Services:
        """What the application stands on."""
        return self.pages.services

    @property
    def here(self) -> str:
        """The page's own address without what told of the last press."""
        kept = [
            (name, value) for name, value in self.request.query_params.multi_items() if name not in {"told", "count"}
        ]
        return self.request.url.path + (f"?{urlencode(kept)}" if kept else "")

    def asked(self, name: str, most: int = 1000) -> str:
        """Return what the address says under a name, without spaces around it; empty if nothing."""
        return self.request.query_params.get(name, "").strip()[:most]

    def chosen(self, name: str, choices: Collection[str], default: str) -> str:
        """Return which of the choices the address names; raises `InvalidInput` if it names another."""
        asked = self.asked(name)
        if asked and asked not in choices:
            raise InvalidInput(f"there is no {name} {quoted(asked)}; there are {', '.join(choices)}", field=name)
        return asked or default

    def number(self, name: str) -> int | None:
        """Return the number that the address says under a name; raises `InvalidInput` if it says something else."""
        asked = self.asked(name)
        if not asked:
            return None
        if not asked.isdecimal() or len(asked) > DIGITS:
            raise InvalidInput(f"{name} is no number of at most {DIGITS} digits", field=name)
        return int(asked)

    def clock(self, now: datetime | None = None) -> Clock:
        """Return what words instants for this visitor, as of `now`; what reads them needs the database's `now`."""
        return Clock(zone=self.zone, now=now or datetime.now(UTC))

    def may(self, scope: Scope) -> bool:
        """Tell whether the visitor may do what a scope allows."""
        return self.session is not None and self.session.caller.scope >= scope

    def is_still_let_in(self) -> bool:
        """Tell whether the visitor's session goes on this very moment."""
        return self.pages.sessions.read(self.request.cookies.get(COOKIE)) is not None

    def need(self, scope: Scope) -> Session:
        """Return the session if it may do this; raises `Refused` if not."""
        if self.session is None:
            raise Refused(401, "log in first")
        if not self.may(scope):
            caller = self.session.caller
            raise Refused(
                403, f"{caller.name} may {caller.scope.name.lower()}; {scope.name.lower()} is needed for this"
            )
        return self.session

    def reading(self) -> AbstractContextManager[Connection]:
        """Lend a connection in a transaction that cannot write."""
        return reading(self.services.database, self.services.read_timeout_s)

    def acting(self, scope: Scope) -> AbstractContextManager[tuple[Connection, Actor]]:
        """Lend a transaction, and who acts in it; raises `Refused` if the visitor may not do what the scope allows."""
        return acting(self.services, self.need(scope).caller)

    def page(self, template: str, *, status: int = 200, now: datetime | None = None, **context: Any) -> Response:
        """Render a page as of `now`."""
        clock = self.clock(now)
        verdict = context.pop("verdict", None)
        if self.session is not None and verdict is None and status < SERVER_ERROR:
            verdict = self.pages.pulse.ask()
        shared = {
            "version": ayb_jobs.__version__,
            "environment": self.services.config.dashboard,
            "session": self.session,
            "is_open": self.request.app.state.authenticator.open,
            "may_operate": self.may(Scope.OPERATE),
            "may_admin": self.may(Scope.ADMIN),
            "sections": SECTIONS,
            "section": "/" + self.request.url.path.split("/")[1],
            "flags": {FLAGS.get(each.name) for each in verdict.findings} if verdict else set(),
            "verdict": verdict,
            "moods": MOODS,
            "icons": {"caught": "retry", "skipped": "canceled"},
            "clock": clock,
            "here": self.here,
            "told": self._told(),
            "asset": self.pages.assets.address,
            "shown_key": "" if self.session is None else self.session.shown_key(),
            "once": secrets.token_urlsafe(12),
            "iso": instant_text,
            "query": query,
            "span_words": span_words,
            "count_words": count_words,
            "counted": counted,
            "in_code": charts.in_code,
            "marked": charts.marked,
            "gauge": charts.gauge,
            "bars": charts.bars,
            "title": "",
        }
        text = templates().get_template(template).render(shared | context)
        content, encoding = packed(self.request, text.encode())
        headers = {**HEADERS, **encoding, "Vary": f"Cookie, {VARY}"}
        return Response(content, status, headers, media_type="text/html")

    def _told(self) -> str:
        word, count = self.asked("told"), self.asked("count")
        if word in DONE and count.isdecimal() and len(count) < LONGEST_COUNT:
            return f"{count_words(int(count), 'job was', 'jobs were')} {DONE[word]}."
        return TOLD.get(word, "")

    def once(self, fields: Mapping[str, str]) -> str | None:
        """Return the idempotency key of what this form makes, so that pressing twice makes it once."""
        return once_key(self.request.url.path, fields)

    def onward(self, path: str, told: str = "", **query_: Any) -> Response:
        """Lead on to another page after a press, which then says what was done, and how things stand since."""
        self.pages.forget()
        return RedirectResponse(path + ("?" if told else "") + query(told=told, **query_), 303, HEADERS)


def query(**values: Any) -> str:
    """Return what is given as the query of an address."""
    return urlencode({name: str(value) for name, value in values.items() if value not in (None, "")})


async def visit_of(request: Request) -> Visit:
    """Return the visit of somebody who is logged in; raises `Refused` if nobody is, or if jobs are disabled."""
    visit = await guest_of(request)
    if visit.session is None:
        raise Refused(401, "log in first")
    if not visit.services.enabled:
        raise Refused(503, NOT_ENABLED)
    return visit


async def guest_of(request: Request) -> Visit:
    """Return the visit of anybody."""
    pages: Pages = request.app.state.dashboard
    session = pages.sessions.read(request.cookies.get(COOKIE))
    return Visit(pages=pages, request=request, session=session, zone=chosen_zone(request.cookies.get(ZONE_COOKIE)))


Visitor = Annotated[Visit, Depends(visit_of)]
Guest = Annotated[Visit, Depends(guest_of)]


async def form_of(request: Request) -> Mapping[str, str]:
    """Return the fields of a form that was sent from a page of ours, in this very session.

    Raises `Refused` otherwise: the guard has looked at `Origin`, and here the browser's own word and the form's are.
    """
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise Refused(403, "forms of other sites may not be sent here")
    visit = await guest_of(request)
    fields = read_form(await request.body())
    session = visit.session
    if session is None or not session.takes_key(fields.get("form_key", "")):
        raise Refused(401 if session is None else 403, "this form is older than your session; open its page again")
    return fields


Fields = Annotated[Mapping[str, str], Depends(form_of)]
