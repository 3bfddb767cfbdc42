"""Accessibility of a page as a browser shows it, measured by axe-core (WCAG 2.2 A and AA, and axe's good practice)."""

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Error, Page

RULES = {
    "resultTypes": ["violations"],
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]},
}


def violations(page: Page, *, context: str | dict[str, Any] | None = None) -> list[str]:
    """Return one line per broken rule and element of the open page (or of the part that ``context`` selects)."""
    try:
        # A click returns before the page that it leads to has come.
        page.wait_for_load_state()
        response = Axe().run(page, context=context, options=RULES).response
    except Error:
        page.wait_for_load_state()
        response = Axe().run(page, context=context, options=RULES).response
    return [
        f"{rule['id']} ({rule['impact']}): {rule['help']} — {' '.join(map(str, node['target']))}: {node['html'][:160]}"
        for rule in response["violations"]
        for node in rule["nodes"]
    ]


def assert_accessible(page: Page, *, context: str | dict[str, Any] | None = None) -> None:
    """Fail with every broken rule of the page, and if its content is wider than the window (WCAG 1.4.10)."""
    found = violations(page, context=context)
    width, window = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    if width > window:
        found.append(f"reflow: the page is {width} px wide in a window of {window} px")
    assert not found, f"{page.url} is not accessible:\n" + "\n".join(found)
