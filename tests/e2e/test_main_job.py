"""The main job in a real browser, through the real queue and worker.

Upload → first impression → analysis → report → the patient's PDF.
"""

import io
import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect
from pypdf import PdfReader

from tests.e2e.axe import assert_accessible
from tests.e2e.conftest import DESKTOP, PASSWORD, Demo, log_in, note_first_impression

pytestmark = [pytest.mark.browser, pytest.mark.slow]

WITHIN_MS = 60_000


def upload(page: Page, slice_file: Path, *, record_number: str, email: str = "") -> None:
    """Fill in the form for a new patient and send it."""
    page.goto("/studies/new/")
    page.get_by_role("textbox", name="Record number").fill(record_number)
    page.get_by_label("Date of birth").fill("1957-04-05")
    page.get_by_label("Family name").fill("Ďurišová-Łąk")
    page.get_by_label("Given name").fill("Zoë")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Study date").fill("2026-01-15")
    page.get_by_label("Clinical question").fill("Cough <b>and</b> weight loss & fever?")
    page.locator("input[type=file]").set_input_files(slice_file)
    page.get_by_role("button", name="Send and analyse").click()
    page.wait_for_url(re.compile(r"/studies/[0-9a-f-]{36}/"))


def wait_for_answer(page: Page) -> None:
    """Wait until the page shows, by itself, what the model said."""
    expect(page.get_by_role("heading", name="Malignant or benign")).to_be_visible(timeout=WITHIN_MS)


def sign_and_release(page: Page, *, impression: str) -> None:
    """From the study page: draft, edit, sign, release."""
    page.reload()
    page.get_by_role("button", name="Write the draft").click()
    page.wait_for_url(re.compile(r"/reports/[0-9a-f-]{36}/"))
    assert page.get_by_label("Findings").input_value().strip()
    page.get_by_label("Impression").fill(impression)
    page.get_by_role("button", name="Save and go on to sign").click()
    page.wait_for_url(re.compile(r"/sign/"))
    assert_accessible(page)
    page.get_by_label("I have looked at the pictures").check()
    page.get_by_role("button", name="Sign the report").click()
    expect(page.get_by_text("signed", exact=True).first).to_be_visible()
    page.get_by_role("button", name="Release to the patient").click()
    expect(page.get_by_text(re.compile("Released by"))).to_be_visible()


def pdf_text(page: Page) -> tuple[bytes, str]:
    """Download the PDF that the page offers; return its bytes and its text with white space folded."""
    address = page.get_by_role("link", name="Download the PDF").first.get_attribute("href")
    response = page.request.get(str(address))
    assert response.status == 200
    assert response.headers["content-type"] == "application/pdf"
    content = response.body()
    text = " ".join(" ".join(one.extract_text() for one in PdfReader(io.BytesIO(content)).pages).split())
    return content, text


def test_doctor_uploads_signs_releases_and_the_patient_opens_the_pdf(
    page: Page, browser: Browser, demo: Demo, slice_file: Path
) -> None:
    email = "zoe.newcomer@example.org"
    log_in(page, "doctor@example.org")
    upload(page, slice_file, record_number="E2E-1", email=email)
    # The demo hospital reads first: the answer may be there, but nothing of it shows.
    expect(page.get_by_text("done", exact=True).first).to_be_visible(timeout=WITHIN_MS)
    expect(page.get_by_role("heading", name="Malignant or benign")).to_have_count(0)
    expect(page.get_by_role("button", name="Write the draft")).to_have_count(0)
    assert_accessible(page)
    note_first_impression(page, note="Spiculated, I think.")
    wait_for_answer(page)
    expect(page.get_by_role("heading", name="Your first impression and the software")).to_be_visible()
    assert_accessible(page)
    # Four classes whose percentages belong together, a picture that really arrives, and a version.
    shares = [float(text.rstrip(" %").lstrip("<>")) for text in page.locator(".bars__value").all_inner_texts()]
    assert len(shares) == 4
    assert 97 <= sum(shares) <= 103
    picture = page.locator("figure.slice img").first
    with Image.open(slice_file) as original:
        width, height = picture.evaluate("image => [image.naturalWidth, image.naturalHeight]")
        # Small slices are drawn larger, so that the outline stays fine; never smaller, never distorted.
        assert width >= original.width
        assert width * original.height == height * original.width
    assert page.locator("#slices").get_attribute("hx-get") is None, "the page still asks although the analysis is done"

    impression = "Spiculated mass in the left upper lobe. Tissue is needed – μ < 5 & ≥ 3 cm."
    sign_and_release(page, impression=impression)
    doctors_pdf, _ = pdf_text(page)

    # The patient: signs up, confirms the address with the mail's link, claims the record, reads.
    patient_context = browser.new_context(base_url=demo.address, viewport=DESKTOP, locale="en-GB")
    patient = patient_context.new_page()
    patient.goto("/accounts/signup/")
    patient.get_by_label("Given name").fill("Zoë")
    patient.get_by_label("Family name").fill("Ďurišová-Łąk")
    patient.get_by_label("E-mail", exact=False).first.fill(email)
    patient.locator("input[type=password]").nth(0).fill("a-long-password-7")
    patient.locator("input[type=password]").nth(1).fill("a-long-password-7")
    patient.get_by_role("button", name=re.compile("create|sign up", re.IGNORECASE)).click()
    patient.goto(demo.mail_link("confirm-email"))
    patient.get_by_role("button", name=re.compile("confirm", re.IGNORECASE)).click()
    log_in(patient, email, password="a-long-password-7")
    expect(patient.get_by_text("No report yet")).to_be_visible()
    patient.get_by_role("link", name="Connect my record").first.click()
    patient.get_by_label("Record number").fill("E2E-1")
    patient.get_by_label("Date of birth").fill("1957-04-05")
    patient.locator("main").get_by_role("button").first.click()
    patient.goto("/reports/mine/")
    patient.get_by_role("link", name=re.compile("CT of the chest, 15 January 2026")).click()
    expect(patient.get_by_text(impression).first).to_be_visible()
    expect(patient.get_by_role("heading", name="In plain words")).to_be_visible()
    assert_accessible(patient)
    patients_pdf, text = pdf_text(patient)
    assert patients_pdf == doctors_pdf
    for words in (
        impression,
        "Riverside Demonstration Hospital",
        "Zoë",
        "Ďurišová-Łąk",
        "E2E-1",
        "Robin Sample",
        "not a diagnosis",
        "not a medical device",
        "Page 1 of",
        "denocarcinoma",
        "Cough <b>and</b> weight loss & fever?",
    ):
        assert words.lower() in text.lower(), words
    patient_context.close()


def test_the_study_page_works_without_javascript(browser: Browser, demo: Demo, slice_file: Path) -> None:
    context = browser.new_context(base_url=demo.address, java_script_enabled=False, locale="en-GB")
    page = context.new_page()
    page.set_default_timeout(WITHIN_MS)
    log_in(page, "doctor@example.org")
    upload(page, slice_file, record_number="E2E-2")
    # Nothing refreshes under the fingers of somebody who is typing.
    assert page.locator("meta[http-equiv=refresh]").count() == 0
    note_first_impression(page)
    # The page refreshes itself by its own <meta>; nothing is clicked.
    wait_for_answer(page)
    assert page.locator("meta[http-equiv=refresh]").count() == 0
    context.close()


def test_a_wrong_file_gets_a_sentence_and_nothing_typed_is_lost(page: Page, tmp_path: Path) -> None:
    log_in(page, "doctor@example.org")
    text_file = tmp_path / "slice.png"
    text_file.write_text("I am a text file, whatever my name says.")
    page.goto("/studies/new/")
    page.get_by_role("textbox", name="Record number").fill("E2E-3")
    page.get_by_label("Family name").fill("Kept")
    page.get_by_label("Clinical question").fill("This text must not be lost.")
    page.get_by_label("Study date").fill("2026-01-15")
    page.locator("input[type=file]").set_input_files(text_file)
    with page.expect_response(lambda response: response.request.method == "POST") as answered:
        page.get_by_role("button", name="Send and analyse").click()
    assert answered.value.status == 400
    assert page.get_by_role("textbox", name="Record number").input_value() == "E2E-3"
    assert page.get_by_label("Family name").input_value() == "Kept"
    assert page.get_by_label("Clinical question").input_value() == "This text must not be lost."
    described_by = page.locator("input[type=file]").get_attribute("aria-describedby") or ""
    sentences = " ".join(page.locator(f"#{part}").inner_text() for part in described_by.split())
    assert re.search(r"[A-Z][^.]+\..*[Pp]lease", sentences), sentences
    page.goto("/studies/?q=E2E-3")
    expect(page.get_by_text("Kept")).to_have_count(0)


def test_a_text_typed_after_the_session_ended_is_kept(page: Page, context: BrowserContext) -> None:
    log_in(page, "doctor@example.org")
    page.goto("/reports/?state=draft")
    page.get_by_role("row").filter(has_text="draft").get_by_role("link").first.click()
    page.wait_for_url(re.compile(r"/reports/[0-9a-f-]{36}/"))
    context.clear_cookies(name="sessionid")
    page.get_by_label("Impression").fill("Typed after the session had ended.")
    expect(page.get_by_text("You are logged out")).to_be_visible()
    assert page.get_by_label("Impression").input_value() == "Typed after the session had ended."
    elsewhere = context.new_page()
    log_in(elsewhere, "doctor@example.org")
    elsewhere.close()
    page.get_by_role("button", name="Save draft").click()
    expect(page.get_by_text("The draft is saved.")).to_be_visible()
    assert page.get_by_label("Impression").input_value() == "Typed after the session had ended."


def test_every_role_lands_where_its_work_begins(context: BrowserContext, demo: Demo) -> None:
    for email, address in (
        ("doctor@example.org", "/"),
        ("patient@example.org", "/reports/mine/"),
        ("admin@example.org", "/administration/"),
    ):
        page = context.new_page()
        log_in(page, email, password=PASSWORD)
        page.goto("/")
        assert page.url == f"{demo.address}{address}"
        assert_accessible(page) if "administration" not in address else None
        context.clear_cookies()
        page.close()
