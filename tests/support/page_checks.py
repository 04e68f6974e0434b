"""Checks of pages in a browser that several tests share."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SIZES = [(width, scheme) for width in (390, 800, 1440) for scheme in ("light", "dark")]


def violations(page: "Page") -> list[str]:
    """What axe finds, one line each."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="no axe: make test-browser installs it"
    ).Axe()
    found = axe.run(page).response["violations"]
    return [f"{one['id']}: {node['html']}: {node['failureSummary']}" for one in found for node in one["nodes"]]


def requests_of(browser: "Browser", address: str) -> set[str]:
    """Addresses that a page asks for while it loads, its own among them; none of data within it."""
    page, asked = browser.new_page(), set[str]()
    page.on("request", lambda request: asked.add(request.url))
    page.goto(address, wait_until="networkidle")
    page.close()
    return {url for url in asked if not url.startswith("data:")}
