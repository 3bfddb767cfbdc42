"""A doctor's morning in a real browser: forty patients, what is new, what is suspicious, and many at once."""

import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, Page, expect

from accounts.models import User
from studies.models import Analysis, Study
from tests.e2e.axe import assert_accessible
from tests.e2e.conftest import DESKTOP, PHONE
from tests.factories import (
    AdministratorFactory,
    AnalysisFactory,
    DoctorFactory,
    ImageFactory,
    PatientFactory,
    ReportFactory,
    StudyFactory,
    answer,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# Playwright's loop runs in this thread, where Django would otherwise refuse to ask the database.
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
expect.set_options(timeout=30_000)  # seconds of work on a quiet machine, longer on a busy one


@pytest.fixture
def morning(browser: Browser, transactional_db: None) -> User:
    """A doctor with forty patients since yesterday: 36 answered, two failed, one waiting, one reported already."""
    doctor = DoctorFactory(given_name="Robin", family_name="Sample")
    for number in range(40):
        patient = PatientFactory(created_by=doctor, family_name=f"Patient{number:02d}", record_number=f"M-{number:03d}")
        study = StudyFactory(created_by=doctor, patient=patient)
        image = ImageFactory(study=study)
        if number in (5, 6):
            AnalysisFactory(image=image, has_failed=True)
        elif number == 7:
            AnalysisFactory(image=image)
        elif number == 8:
            AnalysisFactory(image=image, is_done=True)
            ReportFactory(study=study)
        else:
            share = round(number / 40, 3)
            top = "adenocarcinoma" if share > 0.5 else "normal"
            result = answer(malignant_probability=share, probabilities={top: 0.8, "large_cell_carcinoma": 0.2})
            AnalysisFactory(image=image, is_done=True, result=result)
    return doctor


def tab(browser: Browser, address: str, *, person: User, **options: Any) -> BrowserContext:
    """Return a browser profile in which somebody is logged in."""
    client = Client()
    client.force_login(person)
    context = browser.new_context(base_url=address, locale="en-GB", **({"viewport": DESKTOP} | options))
    context.set_default_timeout(40_000)
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": address}])
    return context


@pytest.fixture
def page(browser: Browser, live_server: Any, morning: User) -> Iterator[Page]:
    """One tab of the doctor, in which no script may fail."""
    context = tab(browser, live_server.url, person=morning)
    problems: list[str] = []
    context.on("weberror", lambda error: problems.append(str(error.error)))
    yield context.new_page()
    context.close()
    assert problems == []


def names(page: Page, *, count: int) -> list[str]:
    """Return the patients of the rows, once there are ``count`` of them."""
    links = page.locator("tbody th a:not(.small)")
    expect(links).to_have_count(count)
    return links.all_inner_texts()


def test_forty_patients_of_a_morning(page: Page) -> None:
    page.goto("/")
    expect(page.get_by_role("heading", name="Unread answers 37")).to_be_visible()
    expect(page.get_by_role("heading", name="Failed analyses 2")).to_be_visible()
    expect(page.get_by_role("heading", name="Drafts to finish and sign 1")).to_be_visible()
    assert_accessible(page)
    page.get_by_role("link", name="All unread answers").click()
    # Triage: the most suspicious of the day first; the second page goes on where the first one ends.
    assert [name.split(",")[0] for name in names(page, count=25)[:3]] == ["Patient39", "Patient38", "Patient37"]
    assert_accessible(page)
    page.get_by_role("link", name="Next page").click()
    names(page, count=12)
    page.get_by_role("link", name="Back to the beginning").click()

    # Search and filters, by keyboard.
    page.goto("/studies/")
    page.get_by_label("Name or record number").fill("m-012")
    page.keyboard.press("Enter")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name="Show all").click()
    page.get_by_label("State").select_option("failed")
    page.get_by_role("button", name="Show").click()
    assert sorted(name[:9] for name in names(page, count=2)) == ["Patient05", "Patient06"]

    # What failed is analysed again, both at once; the list comes back as it was filtered.
    page.locator("thead").get_by_label("Choose all on this page").check()
    expect(page.get_by_text("2 studies chosen")).to_be_visible()
    page.get_by_role("button", name="Analyse failed slices again").click()
    expect(page.get_by_text("2 slices are analysed again.")).to_be_visible()
    expect(page.get_by_text("No study matches.")).to_be_visible()
    assert_accessible(page)


def test_studies_are_chosen_by_mouse_and_keyboard_and_marked(page: Page) -> None:
    page.goto("/studies/?order=newest")
    bar = page.get_by_role("group", name="With the chosen studies")
    expect(bar).to_be_hidden()
    boxes = page.locator('tbody input[name="studies"]')
    boxes.nth(1).click()
    boxes.nth(4).click(modifiers=["Shift"])
    expect(page.get_by_text("4 studies chosen")).to_be_visible()
    assert_accessible(page)
    boxes.nth(0).focus()
    page.keyboard.press("Space")
    expect(page.get_by_text("5 studies chosen")).to_be_visible()
    page.keyboard.press("Escape")
    expect(bar).to_be_hidden()
    boxes.nth(2).check()
    expect(page.get_by_text("1 study chosen")).to_be_visible()
    page.get_by_role("button", name="Mark as read").click()
    expect(page.get_by_text("1 study is marked as read.")).to_be_visible()
    expect(page.locator("tbody .badge--unread")).to_have_count(24)
    assert "order=newest" in page.url


def test_a_row_tells_by_itself_when_its_analysis_is_done(page: Page) -> None:
    waiting = Analysis.objects.get(state="queued")
    page.goto("/studies/?q=M-007")
    row = page.locator("tbody tr").first
    box = row.locator('input[name="studies"]')
    box.check()
    expect(row.get_by_text("queued")).to_be_visible()
    claimed = Analysis.objects.claim(waiting.id)
    assert claimed is not None
    expect(row.get_by_text("analysing")).to_be_visible()
    claimed.succeed(
        answer(malignant_probability=0.77), overlay_png=b"overlay", mask_png=b"mask", activation_png=b"activation"
    )
    expect(row.get_by_text("done")).to_be_visible()
    expect(row.locator("strong")).to_have_text("77%")
    expect(row.get_by_text("unread")).to_be_visible()
    assert box.is_checked(), "what was chosen stays chosen"
    assert page.locator("#worklist-poll").get_attribute("hx-get") is None, "all is done, and the page still asks"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_worklist_on_a_phone(browser: Browser, live_server: Any, morning: User, scheme: str) -> None:
    context = tab(browser, live_server.url, person=morning, viewport=PHONE, color_scheme=scheme, has_touch=True)
    page = context.new_page()
    for address in ("/", "/studies/", "/studies/?q=nobody", "/studies/new/", "/studies/patients/"):
        page.goto(address)
        assert_accessible(page)
    page.goto("/studies/")
    page.get_by_label("Choose all on this page").first.check()
    expect(page.get_by_text("25 studies chosen")).to_be_visible()
    expect(page.get_by_role("button", name="Mark as read")).to_be_in_viewport()
    assert_accessible(page)
    context.close()


def test_the_worklist_works_without_javascript(browser: Browser, live_server: Any, morning: User) -> None:
    context = tab(browser, live_server.url, person=morning, java_script_enabled=False)
    page = context.new_page()
    page.goto("/studies/?order=suspicion")
    page.locator('tbody input[name="studies"]').nth(0).check()
    page.get_by_role("button", name="Mark as read").click()
    expect(page.get_by_text("1 study is marked as read.")).to_be_visible()
    page.goto("/studies/new/")
    page.get_by_label("Clinical question").fill("Kept while I search?")
    page.get_by_label("Find a patient").fill("m-012")
    page.get_by_role("button", name="Search").click()
    page.get_by_label(re.compile("Patient12")).check()
    assert page.get_by_label("Clinical question").input_value() == "Kept while I search?"
    context.close()


def test_a_patient_is_found_while_typing(page: Page) -> None:
    page.goto("/studies/new/")
    page.get_by_label("Find a patient").press_sequentially("patient12")
    page.get_by_label(re.compile("Patient12")).check()
    expect(page.get_by_label("Family name")).to_be_hidden()
    page.get_by_label("Find a patient").fill("nobody at all")
    # Whoever was chosen stays chosen while one looks for others.
    expect(page.get_by_text("None of your patients matches.")).to_be_visible()
    expect(page.get_by_label(re.compile("Patient12"))).to_be_checked()
    assert_accessible(page)


def test_every_page_of_the_administration_is_accessible(browser: Browser, live_server: Any, morning: User) -> None:
    administrator = AdministratorFactory(hospital=morning.hospital)
    context = tab(browser, live_server.url, person=administrator)
    page = context.new_page()
    study = Study.objects.filter(state="succeeded").first()
    assert study is not None
    analysis = Analysis.objects.filter(state="succeeded").first()
    assert analysis is not None
    for address in (
        "",
        "accounts/user/",
        "accounts/hospital/",
        "accounts/accessevent/",
        "studies/patient/",
        "studies/study/",
        f"studies/study/{study.id}/change/",
        "studies/image/",
        "studies/analysis/",
        f"studies/analysis/{analysis.id}/change/",
        "studies/finding/",
        "reports/report/",
    ):
        page.goto(f"/administration/{address}")
        assert_accessible(page)
    context.close()
