"""Hides secrets in text that people and machines will read."""

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

MASK = "***"
# Shorter than this, a known secret is too likely to be part of a harmless word to be looked for everywhere.
SHORTEST = 6

HIDDEN_NAMES = r"(?:\w*password|passwd|pwd|passphrase|\w*secret|\w*token|api[_-]?key|authorization|cookie)"
SECRET_KEY = re.compile(rf"(?i){HIDDEN_NAMES}")

# user:password@ of a URL. Up to the last @, since unescaped ones do occur in passwords.
URL_PASSWORD = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://[^\s:/?#@]*):\S+@")
# password=…, sslpassword = '…', token: …, "secret": "…": words of a connection string, a query, a header, JSON or repr.
NAMED = re.compile(
    rf"""(?ix) (?<![\w-]) ({HIDDEN_NAMES}) (["']?\s*[=:]\s*) (?: (?:bearer|basic|token)\s+ )?
    (?: '(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" | [^\s&,;'"}})\]]+ )"""
)
PASSWORDS = re.compile(r"(?i)://[^\s:/?#@]*:(\S+)@|password\s*=\s*('(?:[^'\\]|\\.)*'|[^\s&]+)")
CREDENTIALS = re.compile(r"(?i)\b(bearer|basic)\s+[\w+/=.~-]{6,}")


class Redactor:
    """Replaces secrets by ***: whatever looks like one, and the secrets it was told of."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        longest_first = sorted({secret for secret in secrets if len(secret) >= SHORTEST}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __call__(self, text: str) -> str:
        """Return a text without its secrets."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        return redact(text)


def redact(text: str) -> str:
    """Return a text without what looks like a secret: passwords of connection strings, named secrets, credentials."""
    if "://" in text:
        text = URL_PASSWORD.sub(rf"\1:{MASK}@", text)
    if "=" in text or ":" in text:
        text = NAMED.sub(rf"\1\2{MASK}", text)
    return CREDENTIALS.sub(rf"\1 {MASK}", text)


def is_secret_name(name: Any) -> bool:
    """Tell whether a field's name says that its value is a secret."""
    return isinstance(name, str) and SECRET_KEY.fullmatch(name) is not None


def passwords(connection_string: str) -> set[str]:
    """Return the passwords within a connection string, URL or keywords, as written and as decoded."""
    written = {word for words in PASSWORDS.findall(connection_string) for word in words if word}
    plain = {re.sub(r"\\(.)", r"\1", word[1:-1]) if word.startswith("'") else word for word in written}
    return written | plain | {unquote(word) for word in plain}
