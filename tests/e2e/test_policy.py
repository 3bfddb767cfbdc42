"""Every page that a role can reach by links, in a real browser: none asks for what the policy of the portal refuses."""

import re
from collections import deque
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

from tests.e2e.conftest import DESKTOP, Demo, log_in

pytestmark = [pytest.mark.browser, pytest.mark.slow]

MOST_PAGES = 70
# Before the scripts of a page: refusals are events of the document, also where no line is written to the console.
EAR = """
window.refusals = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.refusals.push(`${event.violatedDirective}: ${event.blockedURI || "inline"} ${event.sample}`);
});
"""
IDENTIFIER = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|(?<=/)\d+(?=/)")
# Files are no pages; the way out ends the walk.
SKIPPED = re.compile(r"/logout/|\.(png|pdf|zip|json|csv|svg|css|js)$|/download|/static/|/jsi18n/")
PEOPLE = {
    "doctor": "doctor@example.org",
    "patient": "patient@example.org",
    "administrator": "admin@example.org",
}
# Without these the walk has gone somewhere else.
WANTED = {
    "anonymous": {"/accounts/login/", "/accounts/signup/", "/accounts/password/reset/", "/accounts/doctor/"},
    "doctor": {
        "/",
        "/studies/",
        "/studies/new/",
        "/studies/*/",
        "/studies/*/read/",
        "/studies/patients/*/",
        "/reports/",
    }
    | {"/studies/emergency/", "/studies/imports/new/", "/reports/", "/reports/*/", "/accounts/profile/"},
    "patient": {"/reports/mine/", "/reports/mine/*/", "/reports/mine/*/share/", "/reports/mine/links/"}
    | {"/studies/claim/", "/my-record/history/"},
    "administrator": {"/administration/", "/administration/accounts/user/", "/administration/accounts/user/*/change/"}
    | {"/administration/accounts/emergencyaccess/", "/administration/reports/reporttemplate/add/"},
}


class Walk:
    """One tab that follows links and collects what the browser refused, by page."""

    def __init__(self, context: BrowserContext) -> None:
        context.add_init_script(EAR)
        self.page: Page = context.new_page()
        self.refusals: list[str] = []
        self.visited: set[str] = set()
        self.page.on("console", self._note)

    def _note(self, message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text or "Permissions policy" in message.text:
            self.refusals.append(f"{urlsplit(self.page.url).path}: {message.text}")

    def look(self, address: str) -> list[str]:
        """Open a page, let its scripts work, and return the addresses that it links to."""
        answer = self.page.goto(address)
        assert answer is not None
        assert answer.status < 500, f"{address} answers {answer.status}"
        self.page.wait_for_load_state("load")
        self.page.wait_for_timeout(150)
        for refusal in self.page.evaluate("window.refusals || []"):
            self.refusals.append(f"{urlsplit(self.page.url).path}: {refusal}")
        links: list[str] = self.page.eval_on_selector_all("a[href]", "links => links.map(link => link.href)")
        return links

    def go_everywhere(self, start: str) -> None:
        """Visit one page of each kind: addresses that differ by identifiers or questions only are one kind."""
        site = urlsplit(start).netloc
        waiting = deque([start])
        while waiting and len(self.visited) < MOST_PAGES:
            address = waiting.popleft()
            kind = kind_of(address)
            if kind in self.visited or SKIPPED.search(kind):
                continue
            self.visited.add(kind)
            found = self.look(address)
            self.visited.add(kind_of(self.page.url))
            waiting.extend(link for link in found if urlsplit(link).netloc == site)


def kind_of(address: str) -> str:
    return IDENTIFIER.sub("*", urlsplit(address).path)


@pytest.fixture
def walk(browser: Browser, demo: Demo) -> Iterator[Walk]:
    context = browser.new_context(base_url=demo.address, viewport=DESKTOP, locale="en-GB")
    context.set_default_timeout(30_000)
    yield Walk(context)
    context.close()


def test_the_ear_hears_what_is_refused(walk: Walk, demo: Demo) -> None:
    walk.look(f"{demo.address}/accounts/login/")
    assert walk.refusals == []
    walk.page.evaluate("document.body.insertAdjacentHTML('beforeend', '<p style=\"color: red\">x</p>')")
    walk.page.wait_for_function("window.refusals.length > 0")
    assert walk.page.evaluate("window.refusals")[0].startswith("style-src")
    walk.page.wait_for_timeout(100)
    assert walk.refusals, "the console is not heard"


@pytest.mark.parametrize("role", list(WANTED))
def test_no_page_of_any_role_asks_for_what_the_policy_refuses(walk: Walk, demo: Demo, role: str) -> None:
    if role != "anonymous":
        log_in(walk.page, PEOPLE[role])
    walk.go_everywhere(f"{demo.address}/")
    assert walk.refusals == []
    assert WANTED[role] - walk.visited == set()
