"""Addresses on the web that can be posted to, and the names and origins of pages."""

from urllib.parse import urlsplit


def is_http(url: str) -> bool:
    """Tell whether a text is an http:// or https:// URL with a host, a possible port, and no space or control sign."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    plain = url.isprintable() and " " not in url
    return plain and parts.scheme.lower() in ("http", "https") and bool(parts.hostname)


def is_origin(text: str) -> bool:
    """Tell whether a text is what browsers send as `Origin`: a scheme and a host, perhaps a port; `/` may follow."""
    return is_http(text) and text.removesuffix("/").count("/") == len("//") and not set(text) & set("?#@*")
