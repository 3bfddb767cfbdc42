"""The reading page in a real Chromium: real slices, the real worker, Cornerstone as it is served."""

import base64
import io
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Request, Route, expect

from ml.phantom import make_phantom
from tests.dicom_files import dicom
from tests.e2e.axe import assert_accessible
from tests.e2e.conftest import PHONE, Demo, log_in, note_first_impression
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
    """The pixels of a canvas of the viewer, RGBA (H,W,4), as the reader's eye gets them.

    What was asked for is drawn with the browser's next frame: the picture is read in the one after.
    """
    data = page.evaluate(
        """async (name) => {
            await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
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
    found = re.search(r"([\d,]+) %", page.locator("[data-readout]").inner_text())
    assert found
    return int(found[1].replace(",", "")) / 100


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


def outline(page: Page, address: str) -> NDArray[np.bool_]:
    """A stored outline."""
    with Image.open(io.BytesIO(page.request.get(address).body())) as picture:
        return np.asarray(picture.convert("L")) >= 128


def number_in(place: Locator, unit: str) -> float:
    """The number in front of a unit in a text."""
    found = re.search(rf"([\d.]+) {unit}(?!\w)", " ".join(place.all_text_contents()))
    return float(found[1]) if found else float("nan")


def until(page: Page, is_so: Callable[[], bool], *, within_ms: int = 10_000) -> bool:
    """Wait for what changes without an element coming or going."""
    for _ in range(within_ms // 100):
        if is_so():
            return True
        page.wait_for_timeout(100)
    return False


def reading_json(page: Page, address: str) -> Any:
    return page.request.get(address.replace("/read/", "/reading.json")).json()


def test_before_the_first_impression_the_network_carries_no_answer(doctor: Page) -> None:
    """Neither shown nor loaded: what the software said cannot be found in the browser's own tools either."""
    page = doctor
    page.goto("/studies/?q=DEMO-1006")
    page.get_by_role("link", name=re.compile("^Read")).first.click()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    expect(page.locator("[data-reading][data-is-ready]")).to_be_visible(timeout=WITHIN_MS)
    page.locator("[data-stage]").focus()
    for key in ("o", "m", "b", "ArrowRight"):
        page.keyboard.press(key)
    expect(page.get_by_text("neither shown nor loaded until your first impression")).to_be_visible()
    expect(page.locator("[data-layers]")).to_be_hidden()
    expect(page.locator("[data-outline-editor]")).to_be_hidden()
    assert not [url for url in asked if re.search("overlay|mask|activation|outline|judged", url)]
    json = page.request.get(re.sub(r"/read/.*", "/reading.json", page.url)).text()
    assert "picture_url" in json
    for word in ("malignant_probability", "probabilities", "outline_url", "mask_url"):
        assert word not in json
    assert_accessible(page)


def test_slices_are_scrolled_by_key_wheel_slider_and_button(viewer: Page, reading: Reading) -> None:
    status = viewer.locator("[data-status]")
    count = reading.slice_count
    expect(status).to_have_text(f"Slice 1 of {count}")
    first = canvas(viewer)
    viewer.locator("body").press("ArrowRight")
    expect(status).to_have_text(f"Slice 2 of {count}")
    assert (canvas(viewer) != first).any()
    viewer.locator("[data-stage]").hover()
    viewer.mouse.wheel(0, 120)
    expect(status).to_have_text(f"Slice 3 of {count}")
    expect(viewer).to_have_url(re.compile(r"slice=3"))
    # The words beside the picture follow it.
    expect(viewer.get_by_role("heading", name="The software on slice 3")).to_be_visible()
    viewer.get_by_label("Slice", exact=True).last.fill(str(count))
    expect(status).to_have_text(f"Slice {count} of {count}")
    viewer.get_by_role("button", name="Next slice").click()
    expect(status).to_have_text(f"Slice {count} of {count}")
    viewer.get_by_role("button", name="Previous slice").click()
    expect(status).to_have_text(f"Slice {count - 1} of {count}")
    viewer.locator("[data-stage]").press("Home")
    expect(status).to_have_text(f"Slice 1 of {count}")
    np.testing.assert_array_equal(canvas(viewer), first)


def test_presets_and_dragging_change_the_window_which_stays_from_slice_to_slice(viewer: Page) -> None:
    readout = viewer.locator("[data-readout]")
    full = canvas(viewer)[..., :3].astype(int)
    expect(viewer.get_by_text("This file does not tell Hounsfield units.")).to_be_visible()
    pictures = {}
    for name, words in (("Lung", "width 128, level 64"), ("Mediastinum", "width 112, level 136"), ("Bone", "width 96")):
        viewer.get_by_role("button", name=name, exact=True).click()
        expect(readout).to_contain_text(words)
        expect(viewer.get_by_role("button", name=name, exact=True)).to_have_attribute("aria-pressed", "true")
        pictures[name] = canvas(viewer)[..., :3].astype(int)
    assert pictures["Lung"].mean() > full.mean() > pictures["Bone"].mean()
    viewer.locator("body").press("1")
    viewer.locator("body").press("ArrowRight")
    expect(viewer.locator("[data-status]")).to_contain_text("Slice 2")
    expect(readout).to_contain_text("width 128, level 64")
    drag(viewer, (0.5, 0.5), (0.6, 0.5))
    expect(readout).not_to_contain_text("width 128")
    viewer.locator("body").press("0")
    expect(readout).to_contain_text("width 255, level 128")
    before = canvas(viewer)[..., :3].astype(int)
    viewer.locator("body").press("i")
    middle = (before.shape[0] // 2, before.shape[1] // 2)
    assert abs(int(canvas(viewer)[..., 0][middle]) - (255 - before[..., 0][middle])) <= 2


def test_pain_04_a_dicom_slice_is_windowed_in_hounsfield_units_and_measured_in_millimetres(
    doctor: Page, reading: Reading
) -> None:
    page = doctor
    open_viewer(page, reading.dicom)
    expect(page.get_by_text("The file tells Hounsfield units")).to_be_visible()
    page.get_by_role("button", name="Lung", exact=True).click()
    expect(page.locator("[data-readout]")).to_contain_text("Window 1500 HU, level -600 HU")
    expect(page.get_by_text("Sizes are measured in millimetres")).to_be_visible()
    page.get_by_role("button", name="Length", exact=True).click()
    drag(page, (0.3, 0.4), (0.5, 0.5), (0.5, 0.4))
    line = page.locator("[data-measurements] li").first
    expect(line).to_contain_text("mm")
    box = page.locator("[data-stage]").bounding_box()
    assert box
    # A pixel is drawn as wide and as high as it is: the zoom is told for its width.
    wanted_mm = pytest.approx(0.2 * box["width"] / zoom_of(page) * SPACING_MM[1], rel=0.02)
    assert until(page, lambda: number_in(line, "mm") == wanted_mm), line.inner_text()
    page.get_by_role("button", name="Area", exact=True).click()
    drag(page, (0.4, 0.55), (0.5, 0.55), (0.5, 0.65), (0.4, 0.65), (0.4, 0.555))
    expect(page.locator("[data-measurements] li")).to_have_count(2)
    side_mm = SPACING_MM[1] / zoom_of(page)
    wanted_mm2 = pytest.approx(0.01 * box["width"] * box["height"] * side_mm**2, rel=0.05)
    area = page.locator("[data-measurements]")
    assert until(page, lambda: number_in(area, "mm²") == wanted_mm2), area.inner_text()


def test_without_spacing_sizes_are_pixels_and_lines_can_be_taken_away(viewer: Page) -> None:
    expect(viewer.get_by_text("Sizes are measured in pixels (px)")).to_be_visible()
    viewer.locator("body").press("l")
    drag(viewer, (0.4, 0.4), (0.55, 0.5), (0.6, 0.4))
    lines = viewer.locator("[data-measurements] li")
    expect(lines).to_have_count(1)
    box = viewer.locator("[data-stage]").bounding_box()
    assert box
    wanted_px = pytest.approx(0.2 * box["width"] / zoom_of(viewer), rel=0.02)
    assert until(viewer, lambda: number_in(lines, "px") == wanted_px), lines.inner_text()
    # What stands at the line is what stands in the list.
    at_line = viewer.locator("svg.svg-layer text")
    assert until(viewer, lambda: number_in(at_line, "px") == pytest.approx(number_in(lines, "px"), abs=0.6)), (
        at_line.inner_text()
    )
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


def test_pain_05_the_report_is_written_beside_the_picture(doctor: Page, reading: Reading) -> None:
    page = doctor
    open_viewer(page, reading.slices)
    editor = page.locator("form#editor")
    impression = editor.get_by_label("Impression")
    if not editor.count():
        page.get_by_role("button", name="Write the draft").click()
        page.goto(reading.slices)
        expect(page.locator("[data-reading][data-is-ready]")).to_be_visible(timeout=WITHIN_MS)
    picture, text = page.locator("[data-stage]").bounding_box(), editor.bounding_box()
    assert picture
    assert text
    assert picture["x"] + picture["width"] <= text["x"]
    impression.fill("Written with the picture in sight.")
    expect(page.locator("[data-save-state=saved]")).to_be_visible()
    # Another slice, the same text.
    page.locator("[data-stage]").press("ArrowRight")
    expect(page.locator("[data-status]")).to_contain_text("Slice 2")
    expect(impression).to_have_value("Written with the picture in sight.")
    page.reload()
    expect(impression).to_have_value("Written with the picture in sight.")


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


def test_an_outline_redrawn_with_the_brush_is_kept_beside_the_models(viewer: Page, reading: Reading) -> None:
    number, finding = with_finding(viewer, reading)
    models = outline(viewer, finding["outline_url"])
    assert models.any()
    open_viewer(viewer, f"{reading.slices}?slice={number}")
    viewer.get_by_role("button", name="Draw with the brush").click()
    expect(viewer.locator("[data-reading]")).to_have_attribute("data-shown", re.compile(r"^\d"))
    drag(viewer, (0.3, 0.3), (0.4, 0.35))
    drag(viewer, (0.7, 0.7), (0.75, 0.7))
    viewer.get_by_role("button", name="Undo").click()
    viewer.get_by_role("button", name="Eraser").click()
    drag(viewer, (0.3, 0.3), (0.31, 0.305))
    viewer.get_by_label("Malignancy").select_option("4")
    viewer.get_by_role("button", name="Save the outline").click()
    expect(viewer.get_by_text("Your outline is stored beside the software's")).to_be_visible()
    expect(viewer.get_by_role("article", name=re.compile(f"Finding {finding['number']}"))).to_contain_text("corrected")

    stored = next(
        found
        for one in reading_json(viewer, reading.slices)["slices"]
        if one["analysis"]
        for found in one["analysis"]["findings"]
        if found["id"] == finding["id"]
    )
    assert stored["review"]["verdict"] == "corrected"
    assert stored["review"]["malignancy"] == 4
    drawn = outline(viewer, stored["review"]["outline_url"])
    assert drawn.shape == models.shape
    assert (drawn & ~models).sum() > 20, "the brush added nothing"
    assert (models & ~drawn).sum() == 0, "nothing of the model's outline was erased here"
    height, width = drawn.shape
    assert not drawn[int(height * 0.6) :, int(width * 0.65) :][
        ~models[int(height * 0.6) :, int(width * 0.65) :]
    ].any(), "a stroke that was taken back was saved"
    np.testing.assert_array_equal(outline(viewer, finding["outline_url"]), models)
    assert stored["area_px"] == finding["area_px"]
    assert stored["review"]["area_px"] == int(drawn.sum())


def test_an_outline_that_cannot_be_sent_stays_on_the_screen(viewer: Page, reading: Reading) -> None:
    viewer.get_by_label("Which finding").select_option(label="A new finding")
    viewer.get_by_role("button", name="Draw with the brush").click()
    viewer.get_by_role("button", name="Save the outline").click()
    expect(viewer.get_by_text("The outline is empty.")).to_be_visible()
    drag(viewer, (0.5, 0.5), (0.55, 0.5))
    before = overlay(viewer)
    viewer.route("**/reviews/", lambda route: route.abort())
    viewer.get_by_role("button", name="Save the outline").click()
    expect(viewer.get_by_text("The outline could not be sent. It is still here")).to_be_visible()
    viewer.unroute("**/reviews/")
    viewer.mouse.move(1, 1)
    assert (overlay(viewer) > 0).sum() == pytest.approx((before > 0).sum(), rel=0.2)
    viewer.get_by_role("button", name="Save the outline").click()
    expect(viewer.get_by_text("Your outline is stored beside the software's")).to_be_visible()
    added = [one for found in reading_json(viewer, reading.slices)["slices"] for one in found["reviews"]]
    assert [one["verdict"] for one in added] == ["added"]


def test_short_cuts_are_listed_under_the_question_mark_and_can_be_switched_off(viewer: Page) -> None:
    viewer.locator("body").press("?")
    dialog = viewer.get_by_role("dialog", name="Keyboard, mouse and touch")
    expect(dialog).to_be_visible()
    assert_accessible(viewer)
    viewer.locator("body").press("1")
    expect(viewer.locator("[data-readout]")).to_contain_text("width 255")
    dialog.get_by_label("Single keys work on the whole page").uncheck()
    dialog.get_by_role("button", name="Close").press("Enter")
    expect(dialog).to_be_hidden()
    viewer.locator("body").press("1")
    expect(viewer.locator("[data-readout]")).to_contain_text("width 255")
    viewer.locator("[data-stage]").press("1")
    expect(viewer.locator("[data-readout]")).to_contain_text("width 128")
    viewer.locator("[data-stage]").press("?")
    expect(dialog).to_be_visible()
    viewer.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_letters_typed_into_a_field_are_no_short_cuts(viewer: Page) -> None:
    viewer.evaluate(
        "document.querySelector('.reading__words').insertAdjacentHTML('afterbegin', '<textarea></textarea>')"
    )
    field = viewer.locator(".reading__words > textarea")
    field.press_sequentially("1 lip?")
    assert field.input_value() == "1 lip?"
    expect(viewer.locator("[data-readout]")).to_contain_text("width 255")
    expect(viewer.get_by_role("dialog")).to_be_hidden()


def test_pain_12_only_the_neighbours_of_a_slice_are_loaded(doctor: Page, reading: Reading) -> None:
    """A study of a thousand slices must not arrive at once: what is not near is not asked for."""
    page = doctor
    slices = reading_json(page, reading.slices)["slices"]

    def long_study(route: Route) -> None:
        body = route.fetch().json()
        many = [slices[number % len(slices)] | {"id": f"copy-{number}", "number": number + 1} for number in range(500)]
        for number, one in enumerate(many):
            one["picture_url"] += f"?copy={number}"
        route.fulfill(json=body | {"slices": many})

    page.route("**/reading.json", long_study)
    asked: set[int] = set()

    def note(request: Request) -> None:
        if found := re.search(r"slice\.png\?copy=(\d+)", request.url):
            asked.add(int(found[1]))

    page.on("request", note)
    open_viewer(page, reading.slices)
    expect(page.locator("[data-status]")).to_have_text("Slice 1 of 500")
    page.wait_for_load_state("networkidle")
    assert asked
    assert max(asked) <= 4
    page.locator("[data-stage]").press("End")
    expect(page.locator("[data-status]")).to_have_text("Slice 500 of 500")
    page.wait_for_load_state("networkidle")
    assert 499 in asked
    assert not [number for number in asked if 4 < number < 495]


def test_pain_12_the_page_is_usable_on_a_phone(browser: Browser, demo: Demo, reading: Reading) -> None:
    context = browser.new_context(
        base_url=demo.address, viewport=PHONE, locale="en-GB", has_touch=True, is_mobile=True, device_scale_factor=2
    )
    context.add_cookies(reading.cookies)
    page = context.new_page()
    page.set_default_timeout(WITHIN_MS)
    open_viewer(page, reading.slices)
    assert_accessible(page)
    page.locator("[data-stage]").scroll_into_view_if_needed()
    box = page.locator("[data-stage]").bounding_box()
    assert box
    assert box["width"] >= 380
    # As sharp as the screen is, and places are reckoned in the same pixels: at first the slice fits, so its zoom is
    # known without asking the viewer.
    assert page.evaluate("devicePixelRatio") == 2
    assert canvas(page).shape[1] == pytest.approx(2 * box["width"], abs=4)
    width, height = page.evaluate(
        "fetch(document.querySelector('[data-reading]').dataset.source).then(answer => answer.json())"
        ".then(reading => [reading.slices[0].width, reading.slices[0].height])"
    )
    before = zoom_of(page)
    assert before == pytest.approx(min(box["width"] / width, box["height"] / height), rel=0.02)
    pinch(page, centre=(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2))
    expect(page.locator("[data-readout]")).not_to_contain_text(f"{round(before * 100)} %")
    # As far as the fingers moved apart, which the first move may have spent on being recognised.
    assert 2 * before < zoom_of(page) < 3.2 * before
    page.get_by_role("button", name="Fit").tap()
    page.get_by_role("button", name="Length", exact=True).tap()
    swipe(page, (0.3, 0.4), (0.4, 0.5), (0.6, 0.4))
    lines = page.locator("[data-measurements] li")
    expect(lines).to_have_count(1)
    wanted_px = pytest.approx(0.3 * box["width"] / zoom_of(page), rel=0.03)
    assert until(page, lambda: number_in(lines, "px") == wanted_px), lines.inner_text()
    context.close()


def swipe(page: Page, *points: tuple[float, float]) -> None:
    """One finger through points of the picture; shares of its width and height."""
    page.locator("[data-stage]").scroll_into_view_if_needed()
    box = page.locator("[data-stage]").bounding_box()
    assert box
    session = page.context.new_cdp_session(page)

    def finger(kind: str, x: float, y: float) -> None:
        at = [{"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"], "id": 0}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [] if kind == "touchEnd" else at})
        page.wait_for_timeout(16)

    finger("touchStart", *points[0])
    # A finger that rests is what tells a line from a tap.
    page.wait_for_timeout(150)
    for (x1, y1), (x2, y2) in itertools.pairwise(points):
        for step in range(1, 16):
            finger("touchMove", x1 + (x2 - x1) * step / 15, y1 + (y2 - y1) * step / 15)
    finger("touchEnd", *points[-1])
    session.detach()


def pinch(page: Page, *, centre: tuple[float, float]) -> None:
    """Two fingers that move apart."""
    session = page.context.new_cdp_session(page)

    def fingers(kind: str, apart: float) -> None:
        points = [{"x": centre[0] + side * apart, "y": centre[1], "id": at} for at, side in enumerate((-1, 1))]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [] if kind == "touchEnd" else points})

    fingers("touchStart", 40)
    for apart in range(44, 120, 4):
        fingers("touchMove", apart)
        page.wait_for_timeout(16)
    fingers("touchEnd", 120)
    session.detach()


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


def test_without_javascript_the_slice_and_the_way_to_the_next_one_are_there(
    browser: Browser, demo: Demo, reading: Reading
) -> None:
    context = browser.new_context(base_url=demo.address, java_script_enabled=False, locale="en-GB")
    context.add_cookies(reading.cookies)
    page = context.new_page()
    page.set_default_timeout(WITHIN_MS)
    page.goto(reading.slices)
    picture = page.locator("figure.slice img[data-slice]")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 0
    expect(page.locator("[data-reading]")).to_be_hidden()
    page.get_by_role("link", name="Next slice").click()
    expect(page.get_by_text(f"Slice 2 of {reading.slice_count}")).to_be_visible()
    expect(page.get_by_role("heading", name="The software on slice 2")).to_be_visible()
    context.close()


def test_a_viewer_that_cannot_start_leaves_the_plain_slice(doctor: Page, reading: Reading) -> None:
    page = doctor
    page.route("**/reading.json", lambda route: route.abort())
    page.goto(reading.slices)
    expect(page.get_by_text("The viewer could not be started")).to_be_visible()
    expect(page.locator("figure.slice img[data-slice]")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_reading_page_is_accessible(viewer: Page, reading: Reading, scheme: str) -> None:
    viewer.emulate_media(color_scheme=scheme)  # type: ignore[arg-type] # one of the two
    viewer.get_by_role("button", name="Length", exact=True).click()
    drag(viewer, (0.4, 0.4), (0.5, 0.5), (0.6, 0.4))
    viewer.get_by_role("button", name="Draw with the brush").click()
    assert_accessible(viewer)
