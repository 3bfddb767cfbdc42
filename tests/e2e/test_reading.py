"""The reading page in a real Chromium: real slices, the real worker, Cornerstone as it is served."""

import base64
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, expect

from ml.phantom import make_phantom
from tests.dicom_files import dicom
from tests.e2e.conftest import Demo, log_in, note_first_impression
from tests.e2e.test_main_job import WITHIN_MS
from tests.tools import ROOT, SHARED_DATA, skip_or_fail

pytestmark = [pytest.mark.browser, pytest.mark.slow]

BUNDLE = ROOT / "portal/static/portal/build/reading.js"
DOCTOR = "doctor@example.org"
SPACING_MM = (0.7, 0.8)
STRICT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'"
)


@dataclass(frozen=True)
class Reading:
    """The addresses of two studies of the same doctor: PNG slices that have been read, and one DICOM slice."""

    slices: str
    dicom: str
    slice_count: int
    cookies: list[Any]


@pytest.fixture(autouse=True)
def _patience() -> Iterator[None]:
    """Wait as long for a page to change as for a page to load: a busy machine is no bug."""
    expect.set_options(timeout=WITHIN_MS)
    yield
    expect.set_options(timeout=5_000)


def slice_files(folder: Path) -> list[Path]:
    """Five neighbouring slices with a tumour: real ones where ../shared/data is, generated ones elsewhere."""
    masks = sorted((SHARED_DATA / "msd-lung-slices").glob("*/slice*_mask.png"))
    if masks:
        return [path.with_name(path.name.replace("_mask", "")) for path in masks[:5]]
    paths = [folder / f"slice{number}.png" for number in range(5)]
    for number, path in enumerate(paths):
        Image.fromarray(make_phantom(number).pixels).save(path)
    return paths


def receive(page: Page, files: list[Any], *, record_number: str) -> str:
    """Upload a study of a new patient; return the address of its reading page."""
    page.goto("/studies/new/")
    page.locator("#id_record_number").fill(record_number)
    page.get_by_label("Date of birth").fill("1957-04-05")
    page.get_by_label("Family name").fill("Reading")
    page.get_by_label("Given name").fill(record_number)
    page.get_by_label("Study date").fill("2026-01-15")
    page.locator("input[type=file]").set_input_files(files)
    page.get_by_role("button", name="Send and analyse").click()
    page.wait_for_url(re.compile(r"/studies/[0-9a-f-]{36}/"))
    return page.url.split("?")[0] + "read/"


@pytest.fixture(scope="module")
def reading(browser: Browser, demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Reading:
    """Upload both studies once, wait for the worker, and note a first impression of each."""
    if not BUNDLE.exists():
        skip_or_fail("the reading page's scripts are not bundled (make frontend)")
    context = browser.new_context(base_url=demo.address, locale="en-GB")
    page = context.new_page()
    page.set_default_timeout(WITHIN_MS)
    log_in(page, DOCTOR)
    files = slice_files(tmp_path_factory.mktemp("slices"))
    pixels = np.round(make_phantom(3).pixels / 255 * 1900).astype(np.uint16)
    content = dicom(pixels=pixels, PixelSpacing=list(SPACING_MM), RescaleIntercept=-1050)
    one = receive(page, files, record_number="READ-PNG")
    two = receive(
        page,
        [{"name": "slice.dcm", "mimeType": "application/dicom", "buffer": content}],
        record_number="READ-DICOM",
    )
    for address in (one, two):
        page.goto(address)
        note_first_impression(page)
        expect(page.get_by_role("heading", name=re.compile("The software on slice"))).to_be_visible(timeout=WITHIN_MS)
        expect(page.get_by_text("still being analysed")).to_have_count(0, timeout=2 * WITHIN_MS)
    cookies = context.cookies()
    context.close()
    return Reading(slices=one, dicom=two, slice_count=len(files), cookies=cookies)


@pytest.fixture
def doctor(page: Page, reading: Reading) -> Page:
    """A tab in which the doctor is logged in already."""
    page.context.add_cookies(reading.cookies)
    page.set_default_timeout(WITHIN_MS)
    return page


def open_viewer(page: Page, address: str) -> None:
    """Open a reading page and wait until the viewer has taken the picture's place."""
    page.goto(address)
    expect(page.locator("[data-reading][data-is-ready]")).to_be_visible(timeout=WITHIN_MS)


@pytest.fixture
def viewer(doctor: Page, reading: Reading) -> Page:
    """The reading page of the PNG slices, its viewer at work."""
    open_viewer(doctor, reading.slices)
    return doctor


def canvas(page: Page, *, name: str = "cornerstone-canvas") -> NDArray[np.uint8]:
    """The pixels of a canvas of the viewer, RGBA (H,W,4), as the reader's eye gets them."""
    data = page.evaluate(
        """name => {
            const canvas = document.querySelector(`canvas.${name}`);
            const copy = new OffscreenCanvas(canvas.width, canvas.height);
            copy.getContext('2d').drawImage(canvas, 0, 0);
            return copy.convertToBlob().then((blob) => new Promise((done) => {
              const reader = new FileReader();
              reader.onload = () => done(reader.result.split(',')[1]);
              reader.readAsDataURL(blob);
            }));
        }""",
        name,
    )
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        return np.asarray(picture.convert("RGBA"))


def overlay(page: Page) -> NDArray[np.uint8]:
    """How dense the layer over the slice is, (H,W)."""
    return canvas(page, name="reader__overlay")[..., 3]


def zoom_of(page: Page) -> float:
    """Screen pixels for one pixel of the slice, as the page says it, which is rounded."""
    found = re.search(r"(\d+) %", page.locator("[data-readout]").inner_text())
    assert found
    return int(found[1]) / 100


def drag(page: Page, *points: tuple[float, float]) -> None:
    """Press at the first point of the picture, move through the others, let go; shares of its width and height."""
    page.locator("[data-stage]").scroll_into_view_if_needed()
    box = page.locator("[data-stage]").bounding_box()
    assert box
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=15)
    page.mouse.up()


def reading_json(page: Page, address: str) -> Any:
    return page.request.get(address.replace("/read/", "/reading.json")).json()


def px_in(place: Locator) -> float:
    """The number of pixels that a text names."""
    found = re.search(r"([\d.]+) px", place.text_content() or "")
    return float(found[1]) if found else float("nan")


def until(page: Page, is_so: Callable[[], bool], *, within_ms: int = 10_000) -> bool:
    """Wait for what changes without an element coming or going."""
    for _ in range(within_ms // 100):
        if is_so():
            return True
        page.wait_for_timeout(100)
    return False


def test_without_spacing_sizes_are_pixels_and_lines_can_be_taken_away(viewer: Page) -> None:
    expect(viewer.get_by_text("Sizes are measured in pixels (px)")).to_be_visible()
    viewer.locator("body").press("l")
    drag(viewer, (0.4, 0.4), (0.55, 0.5), (0.6, 0.4))
    lines = viewer.locator("[data-measurements] li")
    expect(lines).to_have_count(1)
    box = viewer.locator("[data-stage]").bounding_box()
    assert box
    wanted_px = pytest.approx(0.2 * box["width"] / zoom_of(viewer), rel=0.02)
    assert until(viewer, lambda: px_in(lines) == wanted_px), lines.inner_text()
    # What stands at the line is what stands in the list.
    at_line = viewer.locator("svg.svg-layer text")
    assert until(viewer, lambda: px_in(at_line) == pytest.approx(px_in(lines), abs=0.6)), at_line.inner_text()
    # The line belongs to its slice.
    viewer.locator("body").press("ArrowRight")
    expect(viewer.locator("svg.svg-layer text")).to_have_count(0)
    lines.get_by_role("button", name="Show").click()
    expect(viewer.locator("svg.svg-layer text")).to_have_count(1)
    lines.get_by_role("button", name="Remove").click()
    expect(lines).to_have_count(0)
    expect(viewer.locator("svg.svg-layer text")).to_have_count(0)


def test_the_keyboard_works_in_the_picture_and_leads_out_of_it(viewer: Page, reading: Reading) -> None:
    stage = viewer.locator("[data-stage]")
    stage.click(position={"x": 60, "y": 60})
    expect(stage).to_be_focused()
    for key, number in (("ArrowRight", 2), ("ArrowLeft", 1), ("End", reading.slice_count), ("Home", 1)):
        viewer.keyboard.press(key)
        expect(stage).to_have_attribute("aria-label", re.compile(rf"^Slice {number} of {reading.slice_count}\b"))
    before = zoom_of(viewer)
    viewer.keyboard.press("+")
    expect(viewer.locator("[data-readout]")).not_to_contain_text(f"{before:.0%}".replace("%", " %"))
    viewer.keyboard.press("?")
    expect(viewer.locator("[data-shortcuts]")).to_be_visible()
    viewer.keyboard.press("Escape")
    expect(viewer.locator("[data-shortcuts]")).to_be_hidden()
    stage.focus()
    viewer.keyboard.press("Tab")
    expect(stage).not_to_be_focused()


def with_finding(page: Page, reading: Reading) -> tuple[int, Any]:
    """The number of a slice on which the model outlined something, and its first finding."""
    for one in reading_json(page, reading.slices)["slices"]:
        if one["analysis"] and one["analysis"]["findings"]:
            return one["number"], one["analysis"]["findings"][0]
    pytest.skip("the model outlined nothing on these slices")


def test_outlines_and_the_activation_map_have_switches_and_an_opacity(viewer: Page, reading: Reading) -> None:
    number, _ = with_finding(viewer, reading)
    asked: list[str] = []
    viewer.on("request", lambda request: asked.append(request.url))
    open_viewer(viewer, f"{reading.slices}?slice={number}")
    root = viewer.locator("[data-reading]")
    expect(root).to_have_attribute("data-shown", re.compile(r"^[1-9]"))
    assert not [url for url in asked if "activation" in url], "a layer that is off is not loaded"
    outlines = overlay(viewer)
    assert outlines.any()
    viewer.get_by_label("Where the model looked").check()
    expect(root).to_have_attribute("data-shown", re.compile("activation"))
    dense = overlay(viewer).astype(int)
    assert (dense > 0).sum() > (outlines > 0).sum()
    viewer.get_by_label("Opacity").fill("20")
    assert overlay(viewer).max() < dense.max()
    viewer.locator("body").press("m")
    viewer.get_by_label("Outlines").uncheck()
    expect(root).to_have_attribute("data-shown", "0")
    assert not overlay(viewer).any()


@pytest.fixture
def strict(context: BrowserContext) -> list[str]:
    """Answer the reading page with a strict content policy; what the browser refuses because of it ends in the list."""
    refused: list[str] = []

    def with_policy(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, headers=response.headers | {"content-security-policy": STRICT_POLICY})

    context.route(re.compile(r"/read/(\?.*)?$"), with_policy)
    context.on(
        "console", lambda message: refused.append(message.text) if "Content Security Policy" in message.text else None
    )
    return refused


def test_the_viewer_needs_nothing_that_a_strict_content_policy_refuses(
    doctor: Page, reading: Reading, strict: list[str]
) -> None:
    page = doctor
    open_viewer(page, reading.slices)
    page.get_by_role("button", name="Length", exact=True).click()
    drag(page, (0.4, 0.4), (0.5, 0.5), (0.6, 0.4))
    expect(page.locator("svg.svg-layer text")).to_contain_text("px")
    page.get_by_role("button", name="Area", exact=True).click()
    drag(page, (0.4, 0.55), (0.5, 0.55), (0.5, 0.65), (0.4, 0.65), (0.4, 0.555))
    page.get_by_role("button", name="Draw with the brush").click()
    drag(page, (0.5, 0.5), (0.55, 0.5))
    page.get_by_label("Where the model looked").check()
    page.keyboard.press("ArrowRight")
    page.wait_for_load_state("networkidle")
    assert strict == []
