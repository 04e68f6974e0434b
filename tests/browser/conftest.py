"""A real browser for tests of the pages: Debian's Chromium, steered by playwright; skipped where one is missing."""

import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
# Sound is played into nothing, and without a click before it, as a person's click would allow.
ARGUMENTS = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--mute-audio"]


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """Chromium without a window, one for all tests."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: make test-browser installs it")
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with playwright.sync_playwright() as tools:
        started = tools.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def open_page(browser: "Browser") -> Iterator[Callable[..., "Page"]]:
    """Opens an address in a window of its own; what scripts of the page fail with fails the test."""
    contexts, failures = [], []

    def open_one(address: str, width: int = 1440, scheme: str = "light", **options: Any) -> "Page":
        size = {"width": width, "height": 900}
        context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce", **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.goto(address)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert failures == []
