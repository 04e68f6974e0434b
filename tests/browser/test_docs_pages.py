"""The documentation's site in a real browser: whether everybody can use it, and that it asks for nothing from elsewhere."""

import functools
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from page_checks import SIZES, violations

ROOT = Path(__file__).parents[2]
PAGES = ("index", "quartet", "reference/space-file")
# The theme gives several parts for navigation one name.
THEME = "landmark-unique"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    pytest.importorskip("mkdocs", reason="no mkdocs: make test-browser installs it")
    folder = tmp_path_factory.mktemp("site")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    return folder


@pytest.fixture(scope="module")
def address(site):
    """Where the site is served on this machine."""
    handler = functools.partial(Quiet, directory=str(site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_axe_finds_no_violation_but_the_themes(open_page, address, width, scheme, page):
    found = violations(open_page(f"{address}/{page}.html", width, scheme))
    assert [one for one in found if not one.startswith(THEME)] == []


@pytest.mark.parametrize("width", [390, 800, 1440])
def test_pages_do_not_scroll_sideways(open_page, address, width):
    page = open_page(f"{address}/reference/space-file.html", width)
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_page_asks_for_nothing_from_elsewhere_and_the_search_finds_pages(browser, address):
    page = browser.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{address}/index.html", wait_until="networkidle")
    page.keyboard.press("/")
    page.keyboard.type("reduction_factor")
    page.locator(".md-search-result__link").first.wait_for()
    assert "space-file" in " ".join(page.locator(".md-search-result__link").evaluate_all("all => all.map(a => a.href)"))
    page.close()
    assert {url for url in asked if not url.startswith((address, "data:", "blob:"))} == set()


def test_a_page_opens_from_a_folder(browser, site):
    page = browser.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((site / "index.html").as_uri(), wait_until="networkidle")
    page.get_by_role("link", name="Your own quartet").first.click()
    assert page.locator("h1").first.inner_text().startswith("You have just recorded a quartet")
    page.close()
    assert {url for url in asked if not url.startswith(("file:", "data:", "blob:"))} == set()
