"""The session behind a login: a cookie signed with a key made from the token, so that every daemon takes it.

A session ends after twelve hours, or as soon as its token is replaced. Forms bear a value made from it as well, which
pages elsewhere cannot know.
"""

import hmac
import json
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from hashlib import sha256

from ayb_jobs.http.edge.auth import LOCAL, Authenticator, Caller

COOKIE = "ayb_jobs_session"
LASTS_S = 12 * 3600
LONGEST_COOKIE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Who visits, and the value that their forms must bear."""

    caller: Caller
    form_key: str

    def shown_key(self) -> str:
        """Return the form key as a page shows it, each time another text.

        Pages are compressed. If a key were the same text beside words that an address chose, the lengths of many pages
        would tell it.
        """
        key = self.form_key.encode()
        mask = secrets.token_bytes(len(key))
        return _text(mask + _masked(mask, key))

    def takes_key(self, shown: str) -> bool:
        """Tell whether a form bears the key of this session."""
        try:
            raw = _bytes(shown)
        except ValueError:
            return False
        half = len(raw) // 2
        return hmac.compare_digest(_masked(raw[:half], raw[half:]), self.form_key.encode())


class Sessions:
    """Makes and reads session cookies. Where no token is asked for, everybody on this machine has a session."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
        self._local = Session(caller=LOCAL, form_key=secrets.token_urlsafe(24))

    def open(self, token: str) -> str | None:
        """Return the cookie for whoever shows this token, or None if it is none of ours."""
        key = self._authenticator.key_of(token)
        if key is None:
            return None
        content = {"k": key.name, "e": int(time.time()) + LASTS_S, "n": secrets.token_urlsafe(12)}
        body = _text(json.dumps(content, separators=(",", ":")).encode())
        return f"{body}.{_text(_sign(key.secret, 'session', body))}"

    def read(self, cookie: str | None) -> Session | None:
        """Return the session that a cookie stands for, or None if it is missing, forged, or over."""
        if self._authenticator.open:
            return self._local
        if not cookie or len(cookie) > LONGEST_COOKIE or not cookie.isascii():
            return None
        body, _, signature = cookie.partition(".")
        try:
            content = json.loads(_bytes(body))
            key = self._authenticator.key_named(str(content["k"]))
            is_over = int(content["e"]) <= time.time()
            shown = _bytes(signature)
        except (ValueError, KeyError, TypeError):
            return None
        if key is None or is_over or not hmac.compare_digest(_sign(key.secret, "session", body), shown):
            return None
        return Session(caller=key.caller, form_key=_text(_sign(key.secret, "form", body)))


def _sign(secret: bytes, purpose: str, text: str) -> bytes:
    key = hmac.digest(secret, f"ayb-jobs dashboard {purpose}".encode(), sha256)
    return hmac.digest(key, text.encode(), sha256)


def _masked(mask: bytes, value: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(mask, value, strict=False))


def _text(value: bytes) -> str:
    return urlsafe_b64encode(value).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
