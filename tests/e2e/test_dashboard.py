"""The pages of figures in a real browser: on a phone and a desk, in light and dark, by keyboard, without scripts."""

import os
from pathlib import Path
from typing import Literal

import pytest
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, Page, expect

from accounts.models import User
from ml import events
from portal.dashboard.pages import PAGES
from tests.e2e.axe import assert_accessible
from tests.e2e.conftest import DESKTOP, PHONE
from tests.factories import AdministratorFactory, DoctorFactory, HospitalFactory, ReportFactory
from tests.portal.dashboard.world import draw_work

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# Playwright's loop runs in this thread, where Django would otherwise refuse to ask the database.
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
expect.set_options(timeout=30_000)  # seconds of work on a quiet machine, longer on a busy one


@pytest.fixture
def administrator(transactional_db: None) -> User:
    """The administrator of a hospital with a month of work and some trouble."""
    doctor = DoctorFactory(hospital=HospitalFactory(name="Riverside Hospital"))
    draw_work(doctor, seed=11, studies=40, days=29)
    ReportFactory(study__created_by=doctor, created_by=doctor, is_signed=True)
    for name in ("StoredPictureError", "StoredPictureError", "ModelFileError"):
        events.record(
            "inference",
            message="It failed.",
            level="error",
            problem=name,
            hospital_id=doctor.hospital_id,
            study_id=None,
        )
    return AdministratorFactory(hospital=doctor.hospital)


def tab(
    browser: Browser,
    address: str,
    *,
    person: User,
    viewport: dict[str, int],
    scheme: Literal["light", "dark"] = "light",
    has_scripts: bool = True,
) -> BrowserContext:
    """Return a browser profile in which somebody is logged in."""
    client = Client()
    client.force_login(person)
    fresh = browser.new_context(
        base_url=address, viewport=viewport, locale="en-GB", color_scheme=scheme, java_script_enabled=has_scripts
    )
    fresh.set_default_timeout(40_000)
    fresh.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": address}])
    return fresh


Scheme = Literal["light", "dark"]
LOOKS: tuple[tuple[str, dict[str, int], Scheme], ...] = (
    ("desk-light", DESKTOP, "light"),
    ("desk-dark", DESKTOP, "dark"),
    ("phone-light", PHONE, "light"),
    ("phone-dark", PHONE, "dark"),
)


def test_every_page_of_figures_is_accessible_however_it_is_looked_at(
    live_server, browser: Browser, administrator: User, tmp_path: Path
) -> None:
    for name, viewport, scheme in LOOKS:
        context = tab(browser, live_server.url, person=administrator, viewport=viewport, scheme=scheme)
        page = context.new_page()
        errors: list[str] = []
        page.on("console", lambda message, errors=errors: errors.append(message.text) if message.type == "error" else 0)
        for address in [*(f"/dashboard/{one}/" for one in PAGES), "/dashboard/problems/"]:
            page.goto(f"{address}?days=30")
            for table in page.locator("details.figures__table").all():
                table.evaluate("one => one.open = true")
            assert_accessible(page)
            for table in page.locator("details.figures__table").all():
                table.evaluate("one => one.open = false")
            page.screenshot(path=tmp_path / f"{address.strip('/').replace('/', '-')}-{name}.png", full_page=True)
        # The content policy reports here what it has kept from running or from being painted.
        assert errors == []
        context.close()


def test_a_period_is_chosen_a_table_opened_and_a_file_taken_by_keyboard_without_scripts(
    live_server, browser: Browser, administrator: User
) -> None:
    context = tab(browser, live_server.url, person=administrator, viewport=DESKTOP, has_scripts=False)
    page: Page = context.new_page()
    page.goto("/dashboard/speed/")
    page.get_by_label("Period").select_option("7")
    page.get_by_role("button", name="Show").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**days=7**")
    panel = page.get_by_role("region", name="Time of an analysis")
    panel.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(panel.get_by_role("row", name="Whole period")).to_be_visible()
    with page.expect_download() as download:
        panel.get_by_role("link", name="Download as CSV").click()
    assert download.value.suggested_filename == "durations-7-days.csv"
    text = Path(download.value.path()).read_text(encoding="utf-8-sig")
    assert text.splitlines()[0] == "Day,Answers,Median (ms),p95 (ms),p99 (ms)"
    assert len(text.splitlines()) == 1 + 7 + 1
    context.close()
