"""The guard that every request passes before any route: token, Host, Origin, body; and no exception leaves it."""

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ayb_jobs.http.edge.auth import Authenticator, is_loopback, no_token
from ayb_jobs.http.edge.bodies import Budget, Replay, read_body
from ayb_jobs.http.edge.problems import INTERNAL, Refused, problem

MAX_HEADER = 32 * 1024
READING = frozenset({"GET", "HEAD", "OPTIONS"})
# Below these every route asks for a token. Elsewhere no bodies are read but the dashboard's forms.
GUARDED = ("/api/", "/admin/")
FORM = b"application/x-www-form-urlencoded"
# Whoever has no token may send forms, and must not use up what the API's bodies share.
FORMS_BYTES = 8 * 2**20

# On every answer: nothing of it is kept, guessed at, framed, or read by another site.
HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """Which names lead here, and which pages elsewhere may write.

    `host` is the address listened on. A page that an attacker's name server leads to a loopback address shows that
    name as Host, so only known names pass; an address typed as digits cannot be led astray, and passes where the
    daemon listens beyond loopback.
    """

    host: str
    allowed_hosts: Sequence[str] = ()
    allowed_origins: Sequence[str] = ()

    def knows_host(self, value: str) -> bool:
        """Tell whether a Host header names this daemon."""
        name = _host_of(value)
        if name is None:
            return False
        known = {self.host.lower().strip("[]"), *(allowed.lower().strip("[]") for allowed in self.allowed_hosts)}
        if is_loopback(name) or name in known:
            return True
        return not is_loopback(self.host) and _is_address(name)

    def knows_origin(self, origin: str, host: str) -> bool:
        """Tell whether a page of this origin may write: one that was served from here, or one that is listed."""
        if origin.lower() in {allowed.lower().rstrip("/") for allowed in self.allowed_origins}:
            return True
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        return parts.scheme in {"http", "https"} and parts.netloc.lower() == host.lower()


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        doors: Doors,
        authenticator: Authenticator,
        on_error: Callable[[str, BaseException], None],
    ) -> None:
        self._app = app
        self._doors = doors
        self._authenticator = authenticator
        self._on_error = on_error
        self.budget = Budget()
        self._forms = Budget(FORMS_BYTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        try:
            self._check(scope)
            await self._pass_on(scope, receive, answer)
        except Refused as refused:
            await problem(refused.status, str(refused), headers=refused.headers)(scope, receive, answer)
        except ClientDisconnect:
            return  # nobody is there to answer, and half a body is no request
        except Exception as error:  # the last door: told, counted, and answered
            self._on_error(f"{scope['method']} {scope['path']}", error)
            if not answer.started:
                await problem(500, INTERNAL)(scope, receive, answer)
            elif not answer.complete:
                raise  # so that the connection is closed, and half an answer is not taken for a whole one

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(GUARDED):
            with self.budget.share() as share:
                body = await read_body(scope, receive, share)
                path = scope["path"].removesuffix("/")  # AYB answers with a slash at the end, too
                await self._app({**scope, "path": path}, Replay(body, receive), send)
        elif scope["method"] in READING:
            await self._app(scope, receive, send)
        elif is_form(scope):
            with self._forms.share() as share:
                await self._app(scope, Replay(await read_body(scope, receive, share), receive), send)
        else:
            await self._app(scope, Replay(b"", receive), send)

    def _check(self, scope: Scope) -> None:
        """Refuse what the header alone shows to be wrong: whoever has no token is told nothing else."""
        if header_size(scope) > MAX_HEADER:
            raise Refused(431, f"the header is larger than {MAX_HEADER} bytes")
        if scope["path"].startswith(GUARDED) and self._authenticator.caller(scope["headers"]) is None:
            raise no_token()
        refusal = self._refusal(scope)
        if refusal is not None:
            raise Refused(403, refusal)

    def _refusal(self, scope: Scope) -> str | None:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        if not self._doors.knows_host(host):
            return "this Host is not known here; list it in api.allowed_hosts"
        if scope["method"] in READING:
            return None
        origin = headers.get(b"origin")
        if origin is not None and not self._doors.knows_origin(origin.decode("latin-1"), host):
            return "pages of this Origin may not write here; list it in api.allowed_origins"
        if origin is None and headers.get(b"sec-fetch-site", b"none") not in {b"none", b"same-origin"}:
            return "pages of other sites may not write here"
        return None


class _Answer:
    """Sends an answer with our headers, and knows how far it is."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False
        self.complete = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            given = {name for name, _ in message.get("headers", ())}
            added = [pair for pair in HEADERS if pair[0] not in given]
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await self._send(message)
        self.complete = message["type"] == "http.response.body" and not message.get("more_body", False)


def is_form(scope: Scope) -> bool:
    """Tell whether a request brings what a page's form sends."""
    kind: bytes = dict(scope["headers"]).get(b"content-type", b"")
    return kind.partition(b";")[0].strip().lower() == FORM


def header_size(scope: Scope) -> int:
    """Return the size of a request's header without its token, which is refused as no valid one however long it is."""
    target = len(scope["raw_path"]) + len(scope["query_string"])
    return target + sum(len(name) + len(value) for name, value in scope["headers"] if name != b"authorization")


def _host_of(value: str) -> str | None:
    """Return the name in a Host header in lower case, without its port and brackets, or None where it is malformed."""
    if not value or any(character in value for character in "/@?#\\ \t"):
        return None
    try:
        parts = urlsplit(f"//{value}")
        _ = parts.port
    except ValueError:
        return None
    return parts.hostname


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
