"""Reading first and judging findings in a real browser that runs no JavaScript: plain forms from end to end."""

import io
import re
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, expect

from tests.e2e.axe import assert_accessible
from tests.e2e.conftest import DESKTOP, PHONE, Demo, log_in, note_first_impression
from tests.e2e.test_main_job import WITHIN_MS, upload, wait_for_answer
from tests.tools import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def drawn_outline(size: tuple[int, int], *, colour: int = 255) -> dict[str, object]:
    """Return a file as a person would draw it: a white ellipse on black, of the slice's size."""
    picture = Image.new("L", size)
    width, height = size
    ImageDraw.Draw(picture).ellipse((width * 0.3, height * 0.4, width * 0.42, height * 0.5), fill=colour)
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    return {"name": "outline.png", "mimeType": "image/png", "buffer": stream.getvalue()}


def judged(page: Page, number: int) -> str:
    """Return what the page says of one finding."""
    return page.get_by_role("article", name=re.compile(rf"Finding {number}\b")).inner_text()


def test_a_doctor_reads_first_then_judges_adds_corrects_and_withdraws_without_javascript(
    browser: Browser, demo: Demo, slice_file: Path
) -> None:
    context = browser.new_context(base_url=demo.address, viewport=DESKTOP, locale="en-GB", java_script_enabled=False)
    page = context.new_page()
    page.set_default_timeout(WITHIN_MS)
    log_in(page, "doctor@example.org")
    upload(page, slice_file, record_number="E2E-REVIEW")
    study = page.url.split("?")[0]
    with Image.open(slice_file) as original:
        size = original.size

    # Nothing chosen: sentences beside the fields, and the note is still there.
    page.get_by_label("Note", exact=False).fill("A round shadow.")
    page.get_by_role("button", name="Note it and show what the software says").click()
    expect(page.get_by_text("Please choose how suspicious it is.")).to_be_visible()
    assert page.get_by_label("Note", exact=False).input_value() == "A round shadow."
    note_first_impression(page, diagnosis="Normal", suspicion=2, note="A round shadow.")
    wait_for_answer(page)
    expect(page.get_by_text("A round shadow.")).to_be_visible()
    found_by_model = page.get_by_role("article", name=re.compile("Finding")).count()

    # A finding that the model missed: refused with a grey outline, kept words, then added.
    page.get_by_role("link", name="Add a finding").click()
    adding = page.get_by_role("form", name="A finding that the software missed")
    adding.get_by_label("Note").fill("Behind the heart.")
    adding.get_by_label("Outline").set_input_files(drawn_outline(size, colour=120))  # type: ignore[arg-type]
    adding.get_by_role("button", name="Add the finding").click()
    expect(page.get_by_text("other values than black and white")).to_be_visible()
    assert adding.get_by_label("Note").input_value() == "Behind the heart."
    adding.get_by_label("Outline").set_input_files(drawn_outline(size))  # type: ignore[arg-type]
    adding.get_by_label("Malignancy").select_option("5")
    adding.get_by_role("button", name="Add the finding").click()
    page.wait_for_url(re.compile(re.escape(study)))
    mine = found_by_model + 1
    assert "added by a doctor" in judged(page, mine)
    assert "Behind the heart." in judged(page, mine)

    # Corrected, withdrawn, and the class of the slice named.
    page.get_by_role("link", name=re.compile(rf"Correct\s+finding {mine}\b")).click()
    page.get_by_label("Class").select_option(label="Large cell carcinoma")
    page.get_by_role("button", name="Save the correction").click()
    assert "corrected" in judged(page, mine)
    assert "Large cell carcinoma" in judged(page, mine)
    page.get_by_role("button", name=re.compile(rf"Reject\s+finding {mine}\b")).click()
    assert "rejected" in judged(page, mine)
    page.get_by_role("link", name="Add a finding").click()
    page.get_by_label("Class of the slice").select_option(label="Unsure")
    page.get_by_role("button", name="Save the class").click()
    expect(page.get_by_text(re.compile("Class of the slice according to Robin Sample"))).to_be_visible()
    if found_by_model:
        page.get_by_role("button", name=re.compile(r"Accept\s+finding 1\b")).click()
        assert "accepted" in judged(page, 1)
    context.close()


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_pages_of_reading_first_and_judging_are_accessible(
    browser: Browser, demo: Demo, viewport: dict[str, int]
) -> None:
    context = browser.new_context(base_url=demo.address, viewport=viewport, locale="en-GB")
    page = context.new_page()
    page.set_default_timeout(WITHIN_MS)
    log_in(page, "doctor@example.org")
    # A study of the demo whose answer is still hidden, and one that has been read.
    page.goto("/studies/?q=DEMO-1005")
    page.get_by_role("link", name=re.compile("Ejemplo")).first.click()
    expect(page.get_by_role("heading", name="Your first impression", exact=True)).to_be_visible()
    assert_accessible(page)
    page.goto("/studies/?q=DEMO-1003")
    page.get_by_role("link", name=re.compile("Muster")).first.click()
    expect(page.get_by_role("heading", name="Your judgement")).to_be_visible()
    assert_accessible(page)
    study = page.url.split("?")[0]
    # The software may have found nothing on this slice: the finding to be corrected is a doctor's own.
    page.get_by_role("link", name="Add a finding").click()
    assert_accessible(page)
    adding = page.get_by_role("form", name="A finding that the software missed")
    with Image.open(ROOT / "fixtures" / "central-mass-soft-tissue.png") as slice_of_demo:
        adding.get_by_label("Outline").set_input_files(drawn_outline(slice_of_demo.size))  # type: ignore[arg-type]
    adding.get_by_label("Malignancy").select_option("3")
    adding.get_by_role("button", name="Add the finding").click()
    page.wait_for_url(re.compile(re.escape(study)))
    page.get_by_role("link", name=re.compile("Correct")).first.click()
    expect(page.get_by_role("button", name="Save the correction")).to_be_visible()
    assert_accessible(page)
    context.close()
