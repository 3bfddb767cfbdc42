"""A ZIP of sixty mixed files through a real browser, web process, queue and worker: every file gets its line."""

import io
import re
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.dicom_files import JPEG_LOSSLESS
from tests.e2e.axe import assert_accessible
from tests.e2e.conftest import DESKTOP, PHONE, Demo, log_in
from tests.factories import slice_png
from tests.studies.bulk import ct
from tests.tools import SHARED_DATA

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(1200)]

WITHIN_MS = 900_000


def real_or_made_slices(count: int) -> list[bytes]:
    """Return PNG slices: real ones where ../shared/data is, generated ones elsewhere; no two show the same."""
    found: dict[bytes, bytes] = {}
    for path in sorted((SHARED_DATA / "msd-lung-slices").glob("*/slice*.png")):
        if not path.stem.endswith("_mask") and len(found) < count:
            with Image.open(path) as picture:
                found.setdefault(picture.convert("L").tobytes(), path.read_bytes())
    slices = list(found.values())
    return slices + [slice_png(seed=1000 + number) for number in range(count - len(slices))]


def real_or_made_series(count: int) -> list[bytes]:
    """Return a DICOM series of one examination."""
    real = sorted((SHARED_DATA / "dicom").rglob("*.dcm"))[:count]
    return [path.read_bytes() for path in real] or [ct(3 * place, PatientID="E2E-SERIES") for place in range(count)]


def mixed_archive(path: Path) -> Path:
    """Write a ZIP of sixty files: 36 slices, a series of 12 under names that tell nothing, and 12 troublemakers."""
    slices, series = real_or_made_slices(36), real_or_made_series(12)
    files = {f"thorax/slice{number}.png": content for number, content in enumerate(slices, start=1)}
    # Without suffix, in the wrong order: the files themselves say what and where they are.
    files |= {f"series/IM{(number * 7) % 12:04}": content for number, content in enumerate(series)}
    files |= {
        "thorax/the same as 1.png": slices[0],
        "thorax/the same as 2.png": slices[1],
        "trouble/letter.png": b"This is a text file, whatever its name says.",
        "trouble/cut.png": slices[3][: len(slices[3]) // 2],
        "trouble/empty.png": b"",
        "trouble/mr.dcm": ct(900, study="9.1", Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4"),
        "trouble/coronal.dcm": ct(901, study="9.2", ImageOrientationPatient=[1, 0, 0, 0, 0, -1]),
        "trouble/scout.dcm": ct(902, study="9.3", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        "trouble/inner.zip": b"PK\x03\x04 an archive in the archive",
        "../../outside.png": slices[4],
        "packed.dcm": ct(903, study="9.4", series="9.4.1", PatientID="E2E-PACKED", compress=JPEG_LOSSLESS),
        ".DS_Store": b"Bud1",
    }
    assert len(files) == 60
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    path.write_bytes(stream.getvalue())
    return path


def row(page: Page, name: str):
    return page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=name, exact=True))


def test_a_zip_of_sixty_mixed_files_gets_sixty_lines(page: Page, browser: Browser, demo: Demo, tmp_path: Path) -> None:
    log_in(page, "doctor@example.org")
    page.goto("/studies/imports/")
    page.get_by_role("link", name="New import").first.click()
    expect(page.get_by_role("heading", name="New import")).to_be_visible()
    assert_accessible(page)
    page.locator("#id_record_number").fill("E2E-BULK")
    page.get_by_label("Date of birth").fill("1951-02-03")
    page.get_by_label("Family name").fill("Bulk")
    page.get_by_label("Given name").fill("Bertha")
    page.locator("[name=loose_files]").set_input_files(mixed_archive(tmp_path / "sixty.zip"))
    expect(page.get_by_text("Files chosen: 1 ")).to_be_visible()
    page.get_by_role("button", name="Send and import").click()
    page.wait_for_url(re.compile(r"/studies/imports/[0-9a-f-]{36}/"), timeout=120_000)
    address = page.url
    # Two things, two bars.
    expect(page.get_by_role("progressbar")).to_have_count(2)
    assert_accessible(page)

    # The browser is closed; the import goes on, and another one finds it done.
    page.close()
    context = browser.new_context(base_url=demo.address, viewport=DESKTOP, locale="en-GB")
    later = context.new_page()
    log_in(later, "doctor@example.org")
    later.goto(address)
    expect(later.get_by_text("60 of 60 read", exact=False).first).to_be_visible(timeout=WITHIN_MS)
    for name, outcome, why in (
        ("thorax/slice1.png", "accepted", "Slice 1 of CT"),
        ("thorax/the same as 1.png", "duplicate", "slice 1 of CT"),
        ("trouble/letter.png", "rejected", "not a picture of a kind that can be read"),
        ("trouble/cut.png", "rejected", "damaged or cut short"),
        ("trouble/empty.png", "rejected", "empty"),
        ("trouble/mr.dcm", "rejected", "its modality is MR"),
        ("trouble/coronal.dcm", "rejected", "not axial"),
        ("trouble/scout.dcm", "rejected", "localizer"),
        ("trouble/inner.zip", "rejected", "archive inside the archive"),
        ("../../outside.png", "rejected", "leads out of the archive"),
        (".DS_Store", "rejected", "left out"),
    ):
        expect(row(later, name)).to_contain_text(outcome)
        expect(row(later, name)).to_contain_text(why)
    for name in ("series/IM0000", "packed.dcm"):
        expect(row(later, name)).to_contain_text("needs a patient")

    # The series asks whose it is, and goes on with the answer.
    later.locator("li").filter(has_text="12 files of").get_by_role("link", name="Choose the patient").click()
    later.locator("#id_record_number").fill("E2E-SERIES")
    later.get_by_label("Date of birth").fill("1949-01-01")
    later.get_by_label("Family name").fill("Series")
    later.get_by_label("Given name").fill("Sigrid")
    assert_accessible(later)
    later.get_by_role("button", name="These are this patient's").click()
    expect(row(later, "series/IM0000")).to_contain_text("accepted", timeout=WITHIN_MS)
    later.get_by_role("link", name="Choose the patient").click()
    later.get_by_role("button", name="Leave these files out").click()
    expect(row(later, "packed.dcm")).to_contain_text("left out at your wish")
    expect(later.get_by_text("48 of 48 slices analysed", exact=True)).to_be_visible(timeout=WITHIN_MS)
    expect(later.locator("#import")).not_to_have_attribute("hx-get", re.compile("."))
    assert_accessible(later)
    later.set_viewport_size(PHONE)
    assert_accessible(later)
    later.get_by_role("link", name=re.compile("Bulk, Bertha")).click()
    expect(later.get_by_role("heading", name="Bertha Bulk")).to_be_visible()
    context.close()


def test_many_loose_files_are_dropped_and_sent_with_progress(page: Page) -> None:
    log_in(page, "doctor@example.org")
    page.goto("/studies/imports/new/")
    # What a browser makes of files that are dragged onto the page.
    page.evaluate(
        """() => {
            const data = new DataTransfer();
            for (let number = 0; number < 25; number += 1) {
                data.items.add(new File([`text ${number}`], `note${number}.txt`));
            }
            document.querySelector("[data-drop]").dispatchEvent(
                new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
        }"""
    )
    expect(page.get_by_text("Files chosen: 25 ")).to_be_visible()
    page.get_by_role("button", name="Send and import").click()
    page.wait_for_url(re.compile(r"/studies/imports/[0-9a-f-]{36}/"))
    expect(page.get_by_text("25 of 25 read")).to_be_visible(timeout=WITHIN_MS)
    expect(page.get_by_role("row")).to_have_count(26)


def test_a_lost_connection_goes_on_where_it_stopped(page: Page, tmp_path: Path) -> None:
    log_in(page, "doctor@example.org")
    page.goto("/studies/imports/new/")
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(f"text {number}")
    page.locator("[name=loose_files]").set_input_files([tmp_path / f"{number}.txt" for number in range(3)])
    page.route("**/files/", lambda route: route.abort())
    page.get_by_role("button", name="Send and import").click()
    expect(page.get_by_text("The connection is lost")).to_be_visible(timeout=60_000)
    page.unroute("**/files/")
    page.get_by_role("button", name="Go on").click()
    page.wait_for_url(re.compile(r"/studies/imports/[0-9a-f-]{36}/"))
    expect(page.get_by_text("3 of 3 read")).to_be_visible(timeout=WITHIN_MS)
