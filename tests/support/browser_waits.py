"""Waiting for what a page's script does, where its policy forbids the evaluation that playwright's own waiting needs."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page


def until(page: "Page", expression: str, seconds: float = 20) -> None:
    """Wait until an expression of JavaScript is true."""
    for _ in range(int(seconds / 0.05)):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"{expression} was not true within {seconds} s")
