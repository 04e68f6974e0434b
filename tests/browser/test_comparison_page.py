"""The page of compared runs in a real browser: whether everybody can use it, at three widths, light and dark."""

import pytest
from compared_runs import write_finished
from page_checks import SIZES, requests_of, violations

from sepsearch.reporting.comparison.facts import gather_comparison
from sepsearch.reporting.comparison.page import write_comparison


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The page of four runs, one of them of other data, one with two seeds."""
    folder = tmp_path_factory.mktemp("compared")
    write_finished(folder, "alpha")
    write_finished(folder, "beta", ratios={"vn": (0.40, 0.41, 0.42), "vc": (0.61, 0.63, 0.60)})
    write_finished(folder, "gamma", fingerprint="f2")
    write_finished(folder, "delta", ratios={"vn": (0.40, 0.41), "vc": (0.61, 0.63)})
    (folder / "copies").mkdir()
    comparison = gather_comparison(["alpha", "beta", "gamma", "delta"], folder, folder / "copies")
    return write_comparison(comparison, folder / "compare.html", folder).as_uri()


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_axe_finds_no_violation(open_page, address, width, scheme):
    assert violations(open_page(address, width, scheme)) == []


@pytest.mark.parametrize("width", [390, 800, 1440])
def test_only_tables_and_figures_scroll_sideways(open_page, address, width):
    assert open_page(address, width).evaluate("document.documentElement.scrollWidth") == width


def test_the_page_asks_for_nothing_from_elsewhere(browser, address):
    assert requests_of(browser, address) == {address}


def test_arrow_keys_read_run_ratio_and_trial_of_the_progress(open_page, address):
    page = open_page(address)
    page.locator("#progress svg[data-values]").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".tip").inner_text().startswith("alpha: 0.900 by t0000 after 1 epoch")
    page.keyboard.press("Escape")
    assert page.locator(".tip").is_hidden()
