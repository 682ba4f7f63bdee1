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

# Where a password may begin in a URL. Looked for from :// on, since looking for a scheme before it would take time that
# grows with the square of the text's length.
URL_USER = re.compile(r"(?i)(?<=[a-z0-9+.-])://[^\s:/?#@]*:")
WORD = re.compile(r"\S+")
# In a list of variables, PWD is the folder that a program runs in.
# password=…, sslpassword = '…', token: …, "secret": "…": words of a connection string, a query, a header, JSON or repr.
NAMED = re.compile(
    rf"""(?ix) (?<![\w-]) (?! (?m:^)(?-i:PWD)=/ ) ({HIDDEN_NAMES}) (["']?\s*[=:]\s*) (?: (?:bearer|basic|token)\s+ )?
    (?: '(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" | [^\s&,;'"}})\]]+ )"""
)
KEYWORD_PASSWORD = re.compile(r"(?i)password\s*=\s*('(?:[^'\\]|\\.)*'|[^\s&]+)")
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
    if "://" in text and "@" in text:
        text = WORD.sub(_without_password, text)
    if "=" in text or ":" in text:
        text = NAMED.sub(rf"\1\2{MASK}", text)
    return CREDENTIALS.sub(rf"\1 {MASK}", text)


def _without_password(word: re.Match[str]) -> str:
    text = word[0]
    found = _url_password(text)
    return text if found is None else f"{text[: found.start]}{MASK}{text[found.stop :]}"


def _url_password(word: str) -> slice | None:
    """Return where a URL's password stands. It ends at the last @, since passwords do hold unescaped ones."""
    last_at = word.rfind("@")
    for user in URL_USER.finditer(word, 0, max(last_at, 0)):
        if user.end() < last_at:
            return slice(user.end(), last_at)
    return None


def without_address(error: BaseException) -> str:
    """Name an error without the address that it is about: the system's words for it, else its class."""
    strerror = getattr(error, "strerror", None)
    return strerror if isinstance(strerror, str) and "://" not in strerror else type(error).__name__


def is_secret_name(name: Any) -> bool:
    """Tell whether a field's name says that its value is a secret."""
    return isinstance(name, str) and SECRET_KEY.fullmatch(name) is not None


def passwords(connection_string: str) -> set[str]:
    """Return the passwords within a connection string, URL or keywords, as written and as decoded."""
    words = WORD.findall(connection_string)
    written = {word[found] for word in words if (found := _url_password(word)) is not None}
    written |= set(KEYWORD_PASSWORD.findall(connection_string))
    plain = {re.sub(r"\\(.)", r"\1", word[1:-1]) if word.startswith("'") else word for word in written}
    return written | plain | {unquote(word) for word in plain}
