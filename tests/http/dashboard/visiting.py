"""Somebody who visits the dashboard without JavaScript: reads pages, fills in forms, presses buttons."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import httpx

from tests.http.conftest import ADMIN, NO_AUTHORITIES, Server

SECURE = ("content-security-policy", "x-frame-options", "x-content-type-options", "referrer-policy")


@dataclass
class Form:
    """A form as a browser sees it: where it is sent, its fields with their values, and its buttons' words."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[str] = field(default_factory=list)


class Page(HTMLParser):
    """A page that was read: its text, its headline, its links and forms."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__()
        self.status = answer.status_code
        self.path = answer.url.raw_path.decode()
        self.html = answer.text
        self.text = ""
        self.headline = ""
        self.links: dict[str, str] = {}
        self.hrefs: list[str] = []
        self.forms: list[Form] = []
        self.ids: list[str] = []
        self._open: list[str] = []
        self._link = self._select = self._area = ""
        self.feed(self.html)
        self.text = " ".join(self.text.split())
        self.headline = " ".join(self.headline.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        self._open.append(tag)
        form = self.forms[-1] if self.forms else None
        match tag:
            case "a":
                self._link = given.get("href") or ""
                self.hrefs.append(self._link)
            case "form":
                self.forms.append(Form(given.get("action") or "", given.get("method") or "get"))
            case "input" if form:
                form.fields[given.get("name") or ""] = given.get("value") or ""
            case "select":
                self._select = given.get("name") or ""
            case "option" if form and self._select and ("selected" in given or self._select not in form.fields):
                form.fields[self._select] = given.get("value") or ""
            case "textarea" if form:
                self._area = given.get("name") or ""
                form.fields[self._area] = ""
            case _:
                pass

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass
        self._select = "" if tag == "select" else self._select
        self._area = "" if tag == "textarea" else self._area

    def handle_data(self, data: str) -> None:
        if "title" not in self._open and "script" not in self._open:
            self.text += data
        if "h1" in self._open:
            self.headline += data
        if "a" in self._open:
            self.links[" ".join(data.split())] = self._link
        if "button" in self._open:
            self.forms[-1].buttons.append(" ".join(data.split()))
        if self._area:
            self.forms[-1].fields[self._area] += data

    def form(self, button: str) -> Form:
        """Return the first form with a button of these words."""
        found = [form for form in self.forms if button in form.buttons]
        assert found, f"no button {button!r} among {[form.buttons for form in self.forms]}"
        return found[0]

    @property
    def buttons(self) -> list[str]:
        """The words of all buttons that send something that changes something."""
        return [word for form in self.forms if form.method == "post" for word in form.buttons if word != "Log out"]


class Guest:
    """A browser with JavaScript off, and what it was served last."""

    def __init__(self, server: Server) -> None:
        self.client = httpx.Client(base_url=server.url, timeout=20, follow_redirects=True, verify=NO_AUTHORITIES)
        self.origin = server.url

    def get(self, path: str) -> Page:
        """Read a page."""
        return Page(self.client.get(path))

    def send(self, path: str, fields: Mapping[str, Any], **headers: str) -> Page:
        """Send a form as a browser does."""
        said = {"Origin": self.origin, "Sec-Fetch-Site": "same-origin", **headers}
        return Page(self.client.post(path, data=dict(fields), headers=said))

    def press(self, page: Page, button: str, **typed: str) -> Page:
        """Press a button, with some fields filled in."""
        form = page.form(button)
        named = (
            {"press": "preview" if button == "Preview" else "save"}
            if button in {"Save", "Create it", "Preview"}
            else {}
        )
        if form.method == "get":
            return Page(self.client.get(form.action, params=form.fields | typed))
        return self.send(form.action, form.fields | named | typed)

    def log_in(self, token: str) -> Page:
        """Log in with a token."""
        return self.press(self.get("/login"), "Log in", token=token)


@contextmanager
def visiting(server: Server, token: str = ADMIN) -> Iterator[Guest]:
    """Visit a server, logged in."""
    guest = Guest(server)
    with guest.client:
        guest.log_in(token)
        yield guest
