"""The patient's own way in a real browser: alone, without a hospital, until a doctor takes over and releases."""

import io
import json
import re
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from pypdf import PdfReader

from tests.e2e.axe import assert_accessible
from tests.e2e.conftest import DESKTOP, PHONE, Demo, log_in, note_first_impression
from tests.e2e.test_main_job import sign_and_release

pytestmark = [pytest.mark.browser, pytest.mark.slow]

WITHIN_MS = 60_000
EMAIL = "lena.alone@example.org"
PASSWORD = "a-long-password-7"
HOSPITAL = "Riverside Demonstration Hospital"
MARK = "Automatic, not read by a doctor"


def look_at(page: Page) -> None:
    """Hold the page to the accessibility rules on a desk and on a phone."""
    for size in (PHONE, DESKTOP):
        page.set_viewport_size(size)
        assert_accessible(page)


def sign_up(page: Page, demo: Demo, *, email: str, given_name: str, family_name: str) -> None:
    """Make an account, confirm the address with the mail's link, log in."""
    page.goto("/accounts/signup/")
    page.get_by_label("Given name").fill(given_name)
    page.get_by_label("Family name").fill(family_name)
    page.get_by_label("E-mail", exact=False).first.fill(email)
    page.locator("input[type=password]").nth(0).fill(PASSWORD)
    page.locator("input[type=password]").nth(1).fill(PASSWORD)
    page.get_by_role("button", name=re.compile("create|sign up", re.IGNORECASE)).click()
    page.goto(demo.mail_link("confirm-email"))
    page.get_by_role("button", name=re.compile("confirm", re.IGNORECASE)).click()
    log_in(page, email, password=PASSWORD)


def fill_in(page: Page, slice_file: Path) -> None:
    page.get_by_label("Your date of birth").fill("1971-08-09")
    page.get_by_label("When was the CT taken?").fill("2026-01-20")
    page.get_by_label("What would you like to know?").fill("Is the shadow something bad?")
    page.locator("input[type=file]").set_input_files(slice_file)


def text_of(pdf: bytes) -> str:
    return " ".join(" ".join(one.extract_text() for one in PdfReader(io.BytesIO(pdf)).pages).split())


def test_alone_uploads_reads_hands_over_and_gets_a_doctor_s_report(
    page: Page, context: BrowserContext, browser: Browser, demo: Demo, slice_file: Path
) -> None:
    sign_up(page, demo, email=EMAIL, given_name="Lena", family_name="Alone-Ålund")
    page.get_by_role("link", name="My own pictures").first.click()
    look_at(page)
    page.get_by_role("link", name="Upload a slice").first.click()
    look_at(page)

    # Consent first: without it nothing is taken, and nothing typed is lost.
    fill_in(page, slice_file)
    page.get_by_role("button", name="Upload and analyse").click()
    expect(page.get_by_text("Without your consent nothing is uploaded")).to_be_visible()
    assert page.get_by_label("What would you like to know?").input_value() == "Is the shadow something bad?"
    look_at(page)
    page.get_by_label("I have read this and agree").check()
    page.locator("input[type=file]").set_input_files(slice_file)
    page.get_by_role("button", name="Upload and analyse").click()
    page.wait_for_url(re.compile(r"/studies/own/[0-9a-f-]{36}/$"))
    own_page = page.url

    # The page tells by itself when the analysis is done.
    expect(page.get_by_role("link", name="Read the automatic report")).to_be_visible(timeout=WITHIN_MS)
    look_at(page)
    page.get_by_role("link", name="Read the automatic report").click()
    expect(page.get_by_text(MARK).first).to_be_visible()
    expect(page.get_by_text("No doctor has looked at this picture.")).to_be_visible()
    assert "%" not in page.locator("main").inner_text()
    picture = page.locator("figure.slice img")
    assert picture.evaluate("image => image.complete && image.naturalWidth") > 0
    look_at(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the PDF").click()
    paper = text_of(Path(download.value.path()).read_bytes())
    assert MARK in paper
    assert "Alone-Ålund" in paper

    # A doctor of the hospital sees nothing of it yet.
    doctors = browser.new_context(base_url=demo.address, viewport=DESKTOP, locale="en-GB")
    doctor = doctors.new_page()
    log_in(doctor, "doctor@example.org")
    doctor.goto("/studies/hand-overs/")
    expect(doctor.get_by_text("Alone-Ålund")).to_have_count(0)
    doctor.goto("/studies/?q=Alone")
    expect(doctor.locator("main").get_by_role("link", name=re.compile("Alone-Ålund"))).to_have_count(0)

    # Handed over, withdrawn, handed over again.
    page.goto(own_page)
    for turn in ("first", "second"):
        page.get_by_role("link", name="Hand it over to a doctor").click()
        look_at(page)
        page.get_by_label("Hospital").select_option(label=f"{HOSPITAL} · Department of Radiology")
        page.get_by_role("button", name="Ask this hospital").click()
        expect(page.get_by_text("waiting for a doctor")).to_be_visible()
        if turn == "first":
            doctor.goto("/studies/hand-overs/")
            expect(doctor.get_by_role("link", name=re.compile("Alone-Ålund"))).to_be_visible()
            page.get_by_role("button", name="Withdraw the request").click()
            expect(page.get_by_text("The request is withdrawn")).to_be_visible()
            doctor.reload()
            expect(doctor.get_by_text("Alone-Ålund")).to_have_count(0)
    look_at(page)

    doctor.goto("/")
    doctor.get_by_role("link", name=re.compile("Alone-Ålund")).click()
    expect(doctor.get_by_text("Is the shadow something bad?")).to_be_visible()
    expect(doctor.locator("main img")).to_have_count(0)
    look_at(doctor)
    doctor.get_by_role("textbox", name="Record number").fill("E2E-LENA")
    doctor.get_by_role("button", name="Take it over").click()
    doctor.wait_for_url(re.compile(r"/studies/[0-9a-f-]{36}/$"))
    page.reload()
    expect(page.get_by_text(re.compile(f"A doctor of {HOSPITAL} took the examination over"))).to_be_visible()
    look_at(page)

    # As usual from here: first impression, draft, signature, release.
    note_first_impression(doctor)
    expect(doctor.get_by_role("heading", name="Malignant or benign")).to_be_visible(timeout=WITHIN_MS)
    impression = "Mass in the right lung. A tissue sample is needed."
    sign_and_release(doctor, impression=impression)
    doctors.close()
    page.goto("/reports/mine/")
    page.get_by_role("link", name=re.compile("CT of the chest, 20 January 2026")).click()
    expect(page.get_by_text(impression).first).to_be_visible()
    expect(page.get_by_text(MARK)).to_have_count(0)
    look_at(page)
    page.get_by_role("link", name="All words, with drawings").click()
    expect(page.get_by_role("img", name=re.compile("needle"))).to_be_visible()
    look_at(page)

    # All of it to take along.
    page.get_by_role("link", name="My data").first.click()
    look_at(page)
    page.get_by_role("button", name="Make the archive").click()
    with page.expect_download(timeout=WITHIN_MS) as download:
        page.get_by_role("link", name="Download the archive").click(timeout=WITHIN_MS)
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.testzip() is None
        data = json.loads(archive.read("data.json"))
        assert data["reports"][0]["content"]["impression"] == impression
        assert len([name for name in archive.namelist() if name.endswith(".pdf")]) == 2
    look_at(page)

    # And to have erased: the hospital decides, the signed report stays, the pictures are gone.
    page.get_by_role("link", name="Ask a hospital").click()
    look_at(page)
    page.get_by_role("button", name="Ask for erasure").click()
    expect(page.get_by_role("button", name="Withdraw the request")).to_be_visible()
    office = browser.new_context(base_url=demo.address, viewport=DESKTOP, locale="en-GB")
    administrator = office.new_page()
    log_in(administrator, "admin@example.org")
    administrator.goto("/erasures/")
    look_at(administrator)
    administrator.get_by_role("link", name="E2E-LENA").click()
    look_at(administrator)
    administrator.get_by_label("Erase, as told above").check()
    administrator.get_by_label("Reason, for the patient").fill("You asked, and only the signed report has to stay.")
    administrator.get_by_role("button", name="Decide").click()
    expect(administrator.get_by_text("It is done, and the patient is told.")).to_be_visible()
    look_at(administrator)
    office.close()
    page.reload()
    expect(page.get_by_text("only the signed report has to stay")).to_be_visible()
    look_at(page)
    page.goto("/reports/mine/")
    page.get_by_role("link", name=re.compile("CT of the chest, 20 January 2026")).click()
    expect(page.get_by_text("The pictures were erased")).to_be_visible()
    expect(page.get_by_text(impression).first).to_be_visible()
    page.goto(own_page)
    expect(page.get_by_text("The picture was erased.")).to_be_visible()
    look_at(page)


def test_without_javascript_the_upload_is_analysed_and_deleted(browser: Browser, demo: Demo, slice_file: Path) -> None:
    context = browser.new_context(base_url=demo.address, java_script_enabled=False, locale="en-GB")
    page = context.new_page()
    page.set_default_timeout(WITHIN_MS)
    sign_up(page, demo, email="noscript.alone@example.org", given_name="Nils", family_name="Noscript")
    page.goto("/studies/own/new/")
    fill_in(page, slice_file)
    page.get_by_label("I have read this and agree").check()
    page.get_by_role("button", name="Upload and analyse").click()
    # The page refreshes itself by its own <meta>; nothing is clicked.
    expect(page.get_by_role("link", name="Read the automatic report")).to_be_visible(timeout=WITHIN_MS)
    assert page.locator("meta[http-equiv=refresh]").count() == 0
    page.get_by_role("link", name="Delete it").click()
    page.get_by_role("button", name="Delete for good").click()
    expect(page.get_by_text("Picture and answer are deleted.")).to_be_visible()
    expect(page.get_by_text("Nothing uploaded yet")).to_be_visible()
    context.close()
