"""Every page of the portal by its URL name, measured by axe: whatever the permission matrix opens for somebody.

The matrix names every address of the project, so a new page cannot be left out here. Each page is opened as the first
role that gets it, at the width of a desktop; at the width of a phone nothing may stand out on the right. A hundred
pages take minutes, so ``make acceptance`` opens them; the journeys of the suite measure the pages that they pass.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Browser, BrowserContext, Page

from accounts.models import User
from tests.e2e.axe import violations
from tests.e2e.conftest import DESKTOP, PHONE
from tests.test_permission_matrix import ADMINISTRATION, TABLE, Question, World, world

__all__ = ["world"]  # a fixture that is used by its name
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(3600)]

# What a program asks for, and what ends the log-in of whoever opens it.
NO_PAGES = ("api:", "account_logout")
# Parts that a page puts into itself: without title and style of their own, and measured in the page that asks for them.
PARTS = (
    "training_progress",
    "studies:patient_find",
    "studies:study_status",
    "studies:study_read_panel",
    "studies:own_study_status",
    "studies:import_status",
)
PAGES_OF_THE_API = ("api:docs",)
# The viewer of the API's description has a main part of its own inside the page's; a role takes that away, which axe
# calls minor, and the element itself is not ours.
NOT_OURS = {"api:docs": "aria-allowed-role (minor)"}
# Widgets of Django's administration: a span with a label, and a date and time that share one label.
NOT_OURS_IN_THE_ADMINISTRATION = (
    ("auth_group_", "aria-prohibited-attr (serious)"),
    ("django_q_schedule_", "label (critical)"),
)
ROLES_IN_TURN = ("anonymous", "doctor", "patient", "administrator", "superuser", "waiting")


def pages() -> list[tuple[str, Question]]:
    """Return each address of the matrix that answers a GET with 200, and who gets it: each name and state once."""
    found = []
    for question in TABLE:
        if question.name in PARTS:
            continue
        if question.method != "get" or (question.name.startswith(NO_PAGES) and question.name not in PAGES_OF_THE_API):
            continue
        role = next((role for role in ROLES_IN_TURN if question.answers[role] == 200), None)
        if role is not None:
            found.append((role, question))
    return found


class Tabs:
    """One browser profile for each role, logged in."""

    def __init__(self, browser: Browser, *, address: str, people: dict[str, User]) -> None:
        self.browser, self.address, self.people = browser, address, people
        self.contexts: dict[str, BrowserContext] = {}

    def of(self, role: str) -> Page:
        """Return a tab of this role."""
        if role not in self.contexts:
            context = self.browser.new_context(base_url=self.address, viewport=DESKTOP, locale="en-GB")
            context.set_default_timeout(60_000)
            if role != "anonymous":
                client = Client()
                client.force_login(self.people[role])
                cookies = [
                    {"name": name, "value": morsel.value, "url": self.address}
                    for name, morsel in client.cookies.items()
                ]
                context.add_cookies(cookies)  # type: ignore[arg-type]
            self.contexts[role] = context
        return self.contexts[role].new_page()

    def close(self) -> None:
        """Close all profiles."""
        for context in self.contexts.values():
            context.close()


@pytest.fixture(scope="session", autouse=True)
def _database_beside_the_browser() -> Iterator[None]:
    """Playwright keeps an event loop in this thread, in which Django would refuse to ask the database."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        yield


@pytest.fixture
def tabs(browser: Browser, live_server: Any, world: World) -> Iterator[Tabs]:
    opened = Tabs(browser, address=live_server.url, people=world.people)
    yield opened
    opened.close()


def problems_of(page: Page, address: str) -> list[str]:
    """Open a page and return what is wrong with it; nothing for a file."""
    with page.expect_event("response", lambda answer: answer.request.is_navigation_request()) as answered:
        try:
            page.goto(address)
        except Exception as error:  # a download ends the navigation
            if "Download is starting" not in str(error) and "ERR_ABORTED" not in str(error):
                raise
    answer = answered.value
    if "text/html" not in answer.headers.get("content-type", ""):
        return []
    assert answer.status < 500, address
    page.wait_for_load_state("load")
    found = violations(page)
    page.set_viewport_size(PHONE)
    width, window = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    page.set_viewport_size(DESKTOP)
    if width > window:
        found.append(f"reflow: {width} px wide on a phone of {window} px")
    return found


def test_the_pages_are_really_many() -> None:
    names = {question.name for _role, question in pages()}
    assert len(names) > 70
    assert {"studies:study_read", "reports:report_sign", "reports:my_report", "account_login", "api:docs"} <= names


@pytest.mark.acceptance
def test_axe_finds_nothing_on_any_page_of_the_portal(tabs: Tabs, world: World) -> None:
    wrong = []
    for role, question in pages():
        page = tabs.of(role)
        address = reverse(question.name, kwargs=question.target(world))
        known = NOT_OURS.get(question.name, "-")
        found = [problem for problem in problems_of(page, address) if not problem.startswith(known)]
        wrong += [f"{question} as {role}: {problem}" for problem in found]
        page.close()
    assert wrong == [], "\n".join(wrong)


@pytest.mark.acceptance
def test_axe_finds_nothing_on_any_page_of_the_administration(tabs: Tabs, world: World) -> None:
    wrong = []
    for name, (administrator, _foreign, superuser) in ADMINISTRATION.items():
        role = next(
            (who for who, status in (("administrator", administrator), ("superuser", superuser)) if status == 200), ""
        )
        if not role or name in ("jsi18n", "view_on_site", "autocomplete", "logout"):
            continue
        kwargs: dict[str, Any] = {"app_label": "accounts"} if name == "app_list" else {}
        model, action = name.rpartition("_")[::2]
        is_of_a_row = action in ("change", "history", "delete", "promote", "challenge")
        if is_of_a_row and name not in ("password_change", "ml_modelversion_end_challenge"):
            kwargs = {"object_id": world.target_of(model)}
        page = tabs.of(role)
        wrong += [
            f"{name} as {role}: {problem}"
            for problem in problems_of(page, reverse(f"admin:{name}", kwargs=kwargs))
            if not any(name.startswith(of) and problem.startswith(kind) for of, kind in NOT_OURS_IN_THE_ADMINISTRATION)
        ]
        page.close()
    assert wrong == [], "\n".join(wrong)
