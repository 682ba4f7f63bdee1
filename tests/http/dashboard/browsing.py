"""A real browser, and a page whose complaints fail the test."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NEEDS_A_BROWSER = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")


@contextmanager
def launched() -> Iterator[Any]:
    """Start the browser, and end it."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"] if os.geteuid() == 0 else [], timeout=60_000
        )
        yield started
        started.close()


@contextmanager
def watched(browser: Any, url: str, **options: Any) -> Iterator[Any]:
    """Give a page; whatever it complains of, or asks for elsewhere than at `url`, fails the test at the end."""
    faults: list[str] = []
    context = browser.new_context(**options)
    context.on("request", lambda asked: _note_foreign(faults, url, asked))
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on("dialog", lambda dialog: faults.append(f"dialog: {dialog.message}"))
    page.on("console", lambda said: _note(faults, said))
    try:
        yield page
        assert faults == []
    finally:
        context.close()


def _note(faults: list[str], said: Any) -> None:
    # The browser tells of each page whose status is an error; that the page is shown is what is tested here.
    if said.type in {"error", "warning"} and "Failed to load resource" not in said.text:
        faults.append(f"console: {said.text}")


def _note_foreign(faults: list[str], url: str, asked: Any) -> None:
    if not asked.url.startswith(url):
        faults.append(f"foreign request: {asked.url}")
