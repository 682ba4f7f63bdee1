"""Who may do what: bearer tokens, their scopes, and where the API may listen without one."""

import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from fastapi import Request

from ayb_jobs.config import Api
from ayb_jobs.http.edge.problems import Refused

Header = tuple[bytes, bytes]


class Scope(IntEnum):
    """What a token allows; each scope includes the ones before it.

    `READ` looks. `OPERATE` enqueues, retries, cancels, triggers, and switches schedules off and on. `ADMIN` creates,
    changes and deletes schedules too, since a schedule is work that will run.
    """

    READ = 1
    OPERATE = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A secret that a caller shows, the name under which its deeds are recorded, and what it allows."""

    name: str
    secret: str = field(repr=False)
    scope: Scope = Scope.ADMIN


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling, as the audit records it, and what they may do."""

    name: str
    scope: Scope


# Without a token the API listens on loopback alone, and whoever is on this machine may do anything.
LOCAL = Caller("local", Scope.ADMIN)


def is_loopback(host: str) -> bool:
    """Tell whether an address is this machine's own and no other machine's."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def tokens_of(api: Api) -> list[Token]:
    """Return the tokens that `[api]` names: the admin token, and those with a name and a scope of their own."""
    admin = [Token(name="admin", secret=api.admin_token)] if api.admin_token else []
    named = [Token(name=name, secret=one.token, scope=Scope[one.scope.upper()]) for name, one in api.tokens.items()]
    return admin + named


@dataclass(frozen=True, slots=True)
class Key:
    """What sessions of a token are signed with, its name in their cookies, and whose token it is."""

    name: str
    secret: bytes = field(repr=False)
    caller: Caller


class Authenticator:
    """Knows the tokens. Without any, every caller is `LOCAL`."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._callers = [(_digest(token.secret.encode()), Caller(token.name, token.scope)) for token in tokens]

        self._keys = {
            digest: Key(hmac.digest(digest, b"ayb-jobs key name", "sha256").hex()[:16], digest, caller)
            for digest, caller in self._callers
        }

    @property
    def open(self) -> bool:
        """True where no token is asked for."""
        return not self._callers

    def caller(self, headers: Sequence[Header]) -> Caller | None:
        """Return who shows these headers, or None for a missing, wrong or repeated token.

        Every token is compared in full, as bytes of one length, so that the time taken tells nothing about any.
        """
        if self.open:
            return LOCAL
        shown = [value for name, value in headers if name == b"authorization"]
        scheme, _, secret = shown[0].partition(b" ") if len(shown) == 1 else (b"", b"", b"")
        if scheme.lower() != b"bearer":
            return None
        key = self._key_of(secret.strip())
        return None if key is None else key.caller

    def key_of(self, token: str) -> Key | None:
        """Return the key of sessions of whoever shows this token, or None for a wrong one."""
        return self._key_of(token.strip().encode("utf-8", "replace"))

    def key_named(self, name: str) -> Key | None:
        """Return the key that a session's cookie names, or None if its token is not ours, or has been replaced."""
        return next((key for key in self._keys.values() if key.name == name), None)

    def _key_of(self, secret: bytes) -> Key | None:
        digest = _digest(secret)
        found = [known for known, _ in self._callers if hmac.compare_digest(digest, known)]
        return self._keys[found[0]] if found else None


def requires(scope: Scope) -> Callable[[Request], Coroutine[Any, Any, Caller]]:
    """Return a route's dependency: the caller, or 401 without a valid token and 403 where its scope is too small."""

    async def check(request: Request) -> Caller:
        authenticator: Authenticator = request.app.state.authenticator
        caller = authenticator.caller(request.scope["headers"])
        if caller is None:
            raise no_token()
        if caller.scope < scope:
            raise Refused(
                403, f"the token {caller.name} has scope {caller.scope.name.lower()}; {scope.name.lower()} is needed"
            )
        return caller

    return check


def no_token() -> Refused:
    """Return the refusal of a request without a valid token."""
    return Refused(401, "an admin token is needed: Authorization: Bearer <token>", {"WWW-Authenticate": "Bearer"})


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()
