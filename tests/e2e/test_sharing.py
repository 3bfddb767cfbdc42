"""A patient claims the record by invitation, reads, shares, and takes the link back; the reader in a browser apart."""

import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.e2e.axe import assert_accessible
from tests.e2e.conftest import DESKTOP, PHONE, Demo, log_in, note_first_impression
from tests.e2e.test_main_job import sign_and_release, upload, wait_for_answer

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PASSWORD = "a-long-password-7"
IMPRESSION = "Spiculated mass in the left upper lobe. Tissue is needed."


def look_at(page: Page) -> None:
    """Hold the page to the accessibility rules on a desk and on a phone."""
    assert_accessible(page)
    page.set_viewport_size(PHONE)
    assert_accessible(page)
    page.set_viewport_size(DESKTOP)


def profile(browser: Browser, demo: Demo) -> tuple[BrowserContext, Page]:
    """Return a fresh browser profile with one tab."""
    context = browser.new_context(base_url=demo.address, viewport=DESKTOP, locale="en-GB", accept_downloads=True)
    context.set_default_timeout(30_000)
    return context, context.new_page()


def mailed_code(demo: Demo, *, after: int, within_s: float = 15) -> str:
    """Return the code in the mails that were printed after so many lines of the log."""
    give_up_at = time.monotonic() + within_s
    while time.monotonic() < give_up_at:
        if codes := re.findall(r"^.*?(\d{4} \d{4})\s*$", "".join(demo.log[after:]), re.MULTILINE):
            return str(codes[-1])
        time.sleep(0.2)
    raise AssertionError("No code was mailed.")


def sign_up(page: Page, demo: Demo, *, email: str) -> None:
    """Create the patient's account on the page of the invitation and confirm its address."""
    page.get_by_role("link", name="Create an account").click()
    page.get_by_label("Given name").fill("Zoë")
    page.get_by_label("Family name").fill("Novak")
    page.get_by_label("E-mail", exact=False).first.fill(email)
    page.locator("input[type=password]").nth(0).fill(PASSWORD)
    page.locator("input[type=password]").nth(1).fill(PASSWORD)
    page.get_by_role("button", name=re.compile("create|sign up", re.IGNORECASE)).click()
    page.goto(demo.mail_link("confirm-email"))
    page.get_by_role("button", name=re.compile("confirm", re.IGNORECASE)).click()
    log_in(page, email, password=PASSWORD)


def test_a_patient_claims_reads_shares_and_takes_back(
    page: Page, browser: Browser, demo: Demo, slice_file: Path
) -> None:
    email = "zoe.novak@example.org"
    log_in(page, "doctor@example.org")
    upload(page, slice_file, record_number="E2E-SHARE", email=email)
    note_first_impression(page)
    wait_for_answer(page)
    sign_and_release(page, impression=IMPRESSION)
    page.goto("/studies/patients/?q=E2E-SHARE")
    page.get_by_role("link", name=re.compile("Ďurišová")).first.click()
    page.get_by_role("button", name=re.compile("nvit")).click()
    invitation = demo.mail_link("/studies/claim/")

    patients_profile, patient = profile(browser, demo)
    patient.goto(invitation)
    sign_up(patient, demo, email=email)
    patient.goto(invitation)
    patient.get_by_label("Record number").fill("E2E-SHARE")
    patient.get_by_label("Date of birth").fill("1957-04-05")
    patient.get_by_role("button", name="Claim this record").click()
    patient.goto("/reports/mine/")
    patient.get_by_role("link", name=re.compile("CT of the chest, 15 January 2026")).click()
    expect(patient.get_by_text(IMPRESSION).first).to_be_visible()

    patient.get_by_role("link", name="Show it to somebody").click()
    look_at(patient)
    patient.get_by_role("button", name="Mail the link").click()
    expect(patient.get_by_text("Please enter the e-mail address")).to_be_visible()
    look_at(patient)
    patient.get_by_label("E-mail address of the reader").fill("sister@example.org")
    patient.get_by_label("The link works for").select_option(label="1 day")
    patient.keyboard.press("Enter")
    expect(patient.get_by_text("The link was mailed to sister@example.org.")).to_be_visible()
    look_at(patient)
    shared = demo.mail_link("/reports/shared/")

    # The reader: another browser, no account.
    readers_profile, reader = profile(browser, demo)
    reader.goto(shared)
    look_at(reader)
    before = len(demo.log)
    reader.get_by_role("button", name="Send me the code").click()
    reader.get_by_label("Code", exact=True).fill("0000 0000")
    reader.get_by_role("button", name="Open the document").click()
    expect(reader.get_by_text("This code is not right or too old").first).to_be_visible()
    look_at(reader)
    reader.get_by_label("Code", exact=True).fill(mailed_code(demo, after=before))
    reader.keyboard.press("Enter")
    expect(reader.get_by_text(IMPRESSION)).to_be_visible()
    expect(reader.get_by_role("navigation", name="Main")).to_have_count(0)
    look_at(reader)
    for picture in reader.locator("figure.slice img").all():
        picture.scroll_into_view_if_needed()
        expect(picture).to_have_js_property("complete", True)
        assert picture.evaluate("image => image.naturalWidth") > 0
    with reader.expect_download() as download:
        reader.get_by_role("link", name="Download the PDF").click()
    assert download.value.path().read_bytes().startswith(b"%PDF-")
    inside = reader.url

    # A link that was passed on opens nothing without the mail.
    others_profile, other = profile(browser, demo)
    assert other.goto(inside).status == 404  # type: ignore[union-attr]
    look_at(other)
    other.goto("/reports/mine/")
    assert "/login/" in other.url

    # The patient sees it and takes the link back.
    patient.get_by_role("link", name="Shared", exact=True).click()
    row = patient.get_by_role("row").filter(has_text="sister@example.org")
    expect(row.get_by_text("works", exact=True)).to_be_visible()
    expect(row.get_by_text("(2 times)")).to_be_visible()
    look_at(patient)
    row.get_by_role("button", name="Take back").click()
    expect(patient.get_by_text("The link for sister@example.org opens nothing any more.")).to_be_visible()
    expect(patient.get_by_text("taken back")).to_be_visible()
    assert reader.goto(inside).status == 404  # type: ignore[union-attr]
    assert reader.goto(shared).status == 404  # type: ignore[union-attr]
    expect(reader.get_by_role("heading", name="Nothing to open here")).to_be_visible()
    patient.goto("/my-record/history/")
    expect(patient.get_by_text("Somebody with your link").first).to_be_visible()
    for opened in (patients_profile, readers_profile, others_profile):
        opened.close()
