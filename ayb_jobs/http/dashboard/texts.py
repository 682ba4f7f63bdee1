"""Texts as pages show them: what nobody would see, or what turns the letters around it, stands as an escape."""

from typing import Any

from markupsafe import Markup

BREAKS = frozenset("\n\r\t")


class Exact(str):
    """The value of a field, which a form sends back: not a letter of it may be another."""

    __slots__ = ()


class Html(Markup):
    """Markup whose parts stand in it as `visible` shows them."""

    __slots__ = ()

    @classmethod
    def escape(cls, s: Any, /) -> "Html":
        """Return a text as markup; markup stays as it is."""
        return super().escape(visible(s))


def visible(value: Any) -> Any:
    """Return a text with escapes for what is not printable, as the command line prints it, but for line breaks.

    Whatever is no text, is markup already or is `Exact` comes back as it is.
    """
    if not isinstance(value, str) or value.isprintable() or isinstance(value, Exact | Markup):
        return value
    return "".join(
        part if part.isprintable() or part in BREAKS else part.encode("unicode_escape").decode() for part in value
    )
