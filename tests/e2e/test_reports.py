"""A doctor's reports in a real browser: reading, correcting, signing and amending; lost sessions; two doctors; many."""

import io
import re
import time
import zipfile
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from tests.e2e.axe import assert_accessible
from tests.e2e.conftest import DESKTOP, PASSWORD, PHONE, Demo, log_in

pytestmark = [pytest.mark.browser, pytest.mark.slow]

DOCTOR = "doctor@example.org"
WITHIN_MS = 60_000
DRAFT_URL = re.compile(r"/reports/[0-9a-f-]{36}/$")


def new_draft(page: Page) -> str:
    """Open a draft that no other test works on; return its address.

    The demo has studies without a report: the first of them gets one. When all have, the newest draft is opened.
    """
    page.goto("/studies/")
    addresses = page.locator("a[href^='/studies/']").evaluate_all(
        "links => [...new Set(links.map(link => link.getAttribute('href')))]"
    )
    for address in addresses:
        if not re.fullmatch(r"/studies/[0-9a-f-]{36}/(read/)?(\?.*)?", address):
            continue
        page.goto(address.split("read/")[0])
        if page.get_by_role("link", name="Note a first impression").count():
            page.get_by_role("link", name="Note a first impression").click()
            page.locator("input[name=diagnosis], select[name=diagnosis]").first.wait_for()
            note_first_impression(page)
            page.goto(address.split("read/")[0])
        button = page.get_by_role("button", name="Write the draft")
        if button.count():
            button.click()
            page.wait_for_url(DRAFT_URL)
            return page.url
    page.goto("/reports/?state=draft")
    page.get_by_role("row").filter(has_text="draft").get_by_role("link").first.click()
    page.wait_for_url(DRAFT_URL)
    return page.url


def note_first_impression(page: Page) -> None:
    """Fill in the form of the first impression, however its fields look."""
    select = page.locator("select[name=diagnosis]")
    if select.count():
        select.select_option("unsure")
    else:
        page.locator("input[name=diagnosis][value=unsure]").check()
    suspicion = page.locator("select[name=suspicion]")
    if suspicion.count():
        suspicion.select_option("3")
    else:
        page.locator("input[name=suspicion][value='3']").check()
    page.locator("main form").filter(has=page.locator("[name=suspicion]")).get_by_role("button").first.click()
    page.wait_for_load_state()


def draft_of_demo(page: Page) -> str:
    """Open the demo's own draft; return its address."""
    page.goto("/reports/?state=draft")
    page.get_by_role("row").filter(has_text="Muster").get_by_role("link").first.click()
    page.wait_for_url(DRAFT_URL)
    return page.url


def impression(page: Page) -> str:
    """Return what stands in the field."""
    return page.get_by_label("Impression").input_value()


def expect_saved(page: Page) -> None:
    """Wait until the page says that the text is stored."""
    expect(page.locator("[data-save-state=saved]")).to_be_visible(timeout=WITHIN_MS)


@pytest.fixture
def second(browser: Browser, demo: Demo) -> Iterator[Page]:
    """Another window of the same doctor, in a profile of its own."""
    context = browser.new_context(base_url=demo.address, viewport=DESKTOP, locale="en-GB")
    context.set_default_timeout(20_000)
    page = context.new_page()
    log_in(page, DOCTOR)
    yield page
    context.close()


def test_pain_09_a_draft_saves_itself_and_survives_a_lost_network_and_a_closed_tab(
    page: Page, context: BrowserContext
) -> None:
    log_in(page, DOCTOR)
    address = draft_of_demo(page)
    page.get_by_label("Impression").fill("Typed and left alone.")
    expect_saved(page)
    page.reload()
    assert impression(page) == "Typed and left alone."

    # Without network: told so, kept, and sent by itself once the network is back.
    context.set_offline(True)
    page.get_by_label("Impression").fill("Typed without network.")
    expect(page.get_by_text("the portal cannot be reached")).to_be_visible(timeout=WITHIN_MS)
    expect(page.get_by_role("button", name="Try again now")).to_be_visible()
    assert_accessible(page, context="#editor")
    context.set_offline(False)
    expect_saved(page)
    assert page.evaluate("Object.keys(localStorage).filter(key => key.startsWith('ira-draft:')).length") == 0

    # The tab dies while nothing can be sent: the text is back on the next visit.
    context.set_offline(True)
    page.get_by_label("Impression").fill("Typed, then the tab was closed.")
    page.close(run_before_unload=False)
    context.set_offline(False)
    page = context.new_page()
    page.goto(address)
    assert impression(page) == "Typed, then the tab was closed."
    # Stored by the closing tab, where its last request still got through, or by this one.
    expect(page.locator("[data-save-state=saved], [data-save-state=stored]")).to_be_visible(timeout=WITHIN_MS)
    page.reload()
    assert impression(page) == "Typed, then the tab was closed."


def _only_reading(route: Route) -> None:
    if route.request.method == "POST":
        route.abort()
    else:
        route.continue_()


def test_pain_11_a_lost_session_brings_the_doctor_back_to_the_page_with_the_text(
    page: Page, context: BrowserContext
) -> None:
    log_in(page, DOCTOR)
    address = draft_of_demo(page)
    context.clear_cookies(name="sessionid")
    page.get_by_label("Impression").fill("Typed after the session had ended.")
    expect(page.get_by_text("You are logged out")).to_be_visible(timeout=WITHIN_MS)
    assert_accessible(page, context="#editor")
    page.get_by_role("link", name="Log in again").click()
    log_in_here(page)
    page.wait_for_url(address)
    assert impression(page) == "Typed after the session had ended."
    expect_saved(page)

    # The same within the first second, before anything saved itself, by the button.
    context.clear_cookies(name="sessionid")
    page.get_by_label("Impression").fill("Typed and sent at once.")
    page.get_by_role("button", name="Save and go on to sign").click()
    log_in_here(page)
    page.wait_for_url(address)
    assert impression(page) == "Typed and sent at once."
    expect_saved(page)
    page.reload()
    assert impression(page) == "Typed and sent at once."


def test_pain_11_without_javascript_a_form_sent_after_the_session_comes_back_too(browser: Browser, demo: Demo) -> None:
    context = browser.new_context(base_url=demo.address, java_script_enabled=False, locale="en-GB")
    page = context.new_page()
    page.set_default_timeout(WITHIN_MS)
    log_in(page, DOCTOR)
    address = draft_of_demo(page)
    page.get_by_label("Impression").fill("Sent without script and session.")
    context.clear_cookies(name="sessionid")
    page.get_by_role("button", name="Save draft").click()
    expect(page.get_by_text("Your text is kept")).to_be_visible()
    log_in_here(page)
    assert page.url == address
    assert impression(page) == "Sent without script and session."
    page.get_by_role("button", name="Save draft").click()
    expect(page.get_by_text("The draft is saved.")).to_be_visible()
    context.close()


def log_in_here(page: Page) -> None:
    """Log in on the page that is open."""
    page.get_by_label("E-mail", exact=False).first.fill(DOCTOR)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Log in", exact=True).click()
    page.wait_for_url(lambda url: "/login/" not in url)


@pytest.mark.parametrize(
    ("button", "wanted"),
    [
        ("Keep both, one below the other", "From the other window.\nFrom this window."),
        ("Keep my text", "From this window."),
        ("Keep the stored text", "From the other window."),
    ],
)
def test_of_two_editors_the_second_is_told_and_chooses_between_both_texts(
    page: Page, second: Page, button: str, wanted: str
) -> None:
    log_in(page, DOCTOR)
    address = draft_of_demo(page)
    second.goto(address)
    second.get_by_label("Impression").fill("From the other window.")
    expect_saved(second)
    page.get_by_label("Impression").fill("From this window.")
    expect(page.get_by_role("heading", name="Both texts")).to_be_visible(timeout=WITHIN_MS)
    expect(page.get_by_text("You have changed this draft in another window")).to_be_visible()
    expect(page.locator("[data-stored=impression]")).to_have_text("From the other window.")
    expect(page.locator("[data-mine=impression]")).to_have_text("From this window.")
    for size in (DESKTOP, PHONE):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        assert_accessible(page)
    page.get_by_role("button", name=button).click()
    expect(page.get_by_role("heading", name="Both texts")).to_be_hidden()
    expect_saved(page)
    page.reload()
    assert impression(page) == wanted
    # For the next choice.
    page.get_by_label("Impression").fill(f"Reset {time.monotonic()}")
    expect_saved(page)


def test_log_out_leaves_no_text_behind(page: Page) -> None:
    log_in(page, DOCTOR)
    draft_of_demo(page)
    page.route("**/reports/*/", lambda route: _only_reading(route))
    page.get_by_label("Impression").fill("Must not stay in this browser.")
    expect(page.get_by_text("the portal cannot be reached")).to_be_visible(timeout=WITHIN_MS)
    page.locator("details.account summary").click()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_text("To log out and lose it")).to_be_visible(timeout=WITHIN_MS)
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url(re.compile("/login/"))
    assert page.evaluate("Object.keys(localStorage).length") == 0


def test_reading_correcting_signing_amending(page: Page, context: BrowserContext) -> None:
    """Pain 06: from the pictures to a signed report, its addendum and the amendment that takes its place."""
    log_in(page, DOCTOR)
    new_draft(page)
    assert page.get_by_label("Findings").input_value().strip()
    page.get_by_label("Impression").fill("Mass in the LEFT lung.")
    expect_saved(page)
    page.get_by_role("button", name="Save and go on to sign").click()
    page.wait_for_url(re.compile(r"/sign/"))
    assert_accessible(page)
    page.get_by_label("I have looked at the pictures").check()
    page.get_by_role("button", name="Sign the report").click()
    expect(page.get_by_text("The report is signed")).to_be_visible(timeout=WITHIN_MS)
    signed = page.url
    for size in (DESKTOP, PHONE):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        assert_accessible(page)
    page.set_viewport_size(DESKTOP)  # type: ignore[arg-type]

    page.get_by_role("link", name="Write an addendum").click()
    assert_accessible(page)
    page.get_by_label("Addendum", exact=False).first.fill("Histology: adenocarcinoma.")
    page.get_by_label("I have read the report and this addendum").check()
    page.get_by_role("button", name="Sign the addendum").click()
    expect(page.get_by_role("heading", name="Addendum 1")).to_be_visible(timeout=WITHIN_MS)

    page.get_by_role("link", name="Amend the report").click()
    assert_accessible(page)
    page.get_by_label("What is corrected, and why").fill("The side was wrong: it is the right lung.")
    page.get_by_role("button", name="Open the amendment").click()
    page.wait_for_url(DRAFT_URL)
    assert "Histology: adenocarcinoma." in page.get_by_label("Findings").input_value()
    page.get_by_label("Impression").fill("Mass in the RIGHT lung.")
    page.get_by_role("button", name="Save and go on to sign").click()
    page.wait_for_url(re.compile(r"/sign/"))
    page.get_by_label("I have looked at the pictures").check()
    page.get_by_role("button", name="Sign the report").click()
    expect(page.get_by_text("Amended report, version 2.")).to_be_visible(timeout=WITHIN_MS)
    assert_accessible(page)
    page.goto(signed)
    expect(page.get_by_text("Version 1 was superseded on")).to_be_visible()
    expect(page.get_by_text("Mass in the LEFT lung.")).to_be_visible()
    assert_accessible(page)
    old = page.request.get(str(page.get_by_role("link", name="Download the PDF").first.get_attribute("href")))
    assert old.status == 200
    assert "superseded" in old.headers["content-disposition"]


def test_pain_10_pdfs_of_many_reports_leave_as_one_archive(page: Page) -> None:
    log_in(page, DOCTOR)
    page.goto("/reports/?state=released")
    token = page.locator("input[name=csrfmiddlewaretoken]").first.get_attribute("value")
    studies = []
    for link in page.locator("tbody th a").evaluate_all("links => links.map(link => link.href)"):
        page.goto(link)
        href = page.get_by_role("link", name="Study", exact=True).first.get_attribute("href") or ""
        studies.append(re.search(r"[0-9a-f-]{36}", href)[0])  # type: ignore[index]
    answer = page.request.post(
        "/reports/bulk/pdf/",
        headers={"Content-Type": "application/x-www-form-urlencoded", "Referer": page.url},
        data="&".join([f"csrfmiddlewaretoken={token}", *(f"studies={study}" for study in studies)]),
    )
    page.goto(answer.url)
    assert_accessible(page)
    link = page.get_by_role("link", name="Download the archive")
    expect(link).to_be_visible(timeout=WITHIN_MS)
    for size in (DESKTOP, PHONE):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        assert_accessible(page)
    response = page.request.get(str(link.get_attribute("href")))
    with zipfile.ZipFile(io.BytesIO(response.body())) as archive:
        assert len(archive.namelist()) == len(studies)
        assert all(archive.read(name).startswith(b"%PDF-") for name in archive.namelist())
