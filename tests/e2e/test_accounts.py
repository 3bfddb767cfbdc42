"""Log-in in a real browser where a second step is demanded: app, recovery code, passkey, log out everywhere."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.e2e.axe import assert_accessible
from tests.e2e.conftest import DESKTOP, PHONE, UP_WITHIN_S, answers
from tests.tools import ROOT, free_port

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PASSWORD = "a-long-password"
PEOPLE = """
from allauth.account.models import EmailAddress
from django.utils import timezone
from accounts.models import Hospital, User
hospital = Hospital.objects.create(name="Test Hospital")
for name in ("app", "passkey", "everywhere"):
    user = User.objects.create_user(
        f"{name}@clinic.example", "a-long-password", given_name=name.title(), family_name="Doctor", role="doctor",
        hospital=hospital, approved_at=timezone.now(),
    )
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A portal that demands the second step, with one doctor for each test; the address it answers on."""
    port = free_port()
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "tests.e2e.strict_settings",
        "IRA_VAR_DIR": str(tmp_path_factory.mktemp("strict")),
    }
    for arguments in (["migrate", "--verbosity", "0"], ["shell", "--no-imports", "-c", PEOPLE]):
        subprocess.run([sys.executable, "manage.py", *arguments], cwd=ROOT, env=environment, check=True)
    log = Path(environment["IRA_VAR_DIR"]) / "web.log"
    with log.open("wb") as stream:
        command = [sys.executable, "-m", "gunicorn", "portal.wsgi", "--bind", f"127.0.0.1:{port}", "--threads", "4"]
        web = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=stream, stderr=stream)
    address = f"http://localhost:{port}"
    give_up_at = time.monotonic() + UP_WITHIN_S
    while not answers(address) and time.monotonic() < give_up_at and web.poll() is None:
        time.sleep(0.2)
    assert answers(address), log.read_text()
    yield address
    web.terminate()
    web.wait(20)
    assert "Internal Server Error" not in log.read_text()


def tab(browser: Browser, site: str) -> tuple[BrowserContext, Page]:
    context = browser.new_context(base_url=site, viewport=DESKTOP, locale="en-GB", accept_downloads=True)
    context.set_default_timeout(60_000)
    return context, context.new_page()


def type_password(page: Page, email: str) -> None:
    page.goto("/studies/patients/")
    page.get_by_label("E-mail", exact=False).first.fill(email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Log in", exact=True).click()
    page.wait_for_url(lambda url: "/login/" not in url)


def look_at(page: Page) -> None:
    """Hold the page to the accessibility rules on a desk and on a phone."""
    assert_accessible(page)
    page.set_viewport_size(PHONE)
    assert_accessible(page)
    page.set_viewport_size(DESKTOP)


def fresh_code(secret: str, *, after: str = "") -> str:
    """Return what the app shows now, or next where that is ``after``: a code opens once."""
    while (code := format_hotp_value(hotp_value(secret, int(time.time()) // 30))) == after:
        time.sleep(0.5)
    return code


def log_out(page: Page) -> None:
    page.locator("details.account summary").click()
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url(re.compile("/login/"))


def test_a_doctor_sets_up_an_app_and_logs_in_with_its_code_and_with_a_recovery_code(
    browser: Browser, site: str
) -> None:
    context, page = tab(browser, site)
    type_password(page, "app@clinic.example")
    expect(page.get_by_text("a password alone is not enough")).to_be_visible()
    look_at(page)
    page.goto("/studies/")
    page.wait_for_url(re.compile("/second-step/$"))
    page.get_by_role("link", name="Set up an app").click()
    look_at(page)
    secret = page.locator("#authenticator_secret").inner_text().strip()
    width = page.locator(".qr-code svg").bounding_box()
    assert width is not None
    assert width["width"] > 150
    first = fresh_code(secret)
    page.get_by_label("The six digits").fill(first)
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/recovery-codes/"))
    look_at(page)
    recovery_code = page.locator(".recovery-codes code").first.inner_text()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as a text file").click()
    assert recovery_code in download.value.path().read_text()
    page.get_by_role("link", name="I have kept them").click()
    page.wait_for_url(f"{site}/")
    expect(page.get_by_role("navigation", name="Main").get_by_role("link").first).to_be_visible()
    log_out(page)

    type_password(page, "app@clinic.example")
    look_at(page)
    page.get_by_label("Code", exact=True).fill("000000")
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_text("This code is not right").first).to_be_visible()
    page.get_by_label("Code", exact=True).fill(fresh_code(secret, after=first))
    page.get_by_role("button", name="Go on").click()
    page.wait_for_url(re.compile("/studies/patients/$"))
    log_out(page)

    type_password(page, "app@clinic.example")
    page.get_by_label("Code", exact=True).fill(recovery_code)
    page.get_by_role("button", name="Go on").click()
    page.wait_for_url(re.compile("/studies/patients/$"))
    context.close()


def test_a_passkey_is_the_second_step_and_replaces_the_password(browser: Browser, site: str) -> None:
    context, page = tab(browser, site)
    devices = context.new_cdp_session(page)
    devices.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    device = devices.send("WebAuthn.addVirtualAuthenticator", {"options": options})["authenticatorId"]
    type_password(page, "passkey@clinic.example")
    page.get_by_role("link", name="Add a passkey").click()
    look_at(page)
    page.get_by_label("Log in with this passkey alone").check()
    page.get_by_role("button", name="Add this passkey").click()
    page.wait_for_url(re.compile("/recovery-codes/"))
    page.goto("/accounts/second-step/webauthn/")
    expect(page.get_by_role("heading", name="Passkey 1")).to_be_visible()
    look_at(page)
    log_out(page)

    # After the password.
    type_password(page, "passkey@clinic.example")
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url(re.compile("/studies/patients/$"))
    log_out(page)

    # In its place, back to where one wanted to go.
    page.goto("/studies/patients/")
    look_at(page)
    page.get_by_role("button", name="Use a passkey instead").click()
    page.wait_for_url(re.compile("/studies/patients/$"))
    log_out(page)

    # A passkey that is gone says so beside its button.
    devices.send("WebAuthn.removeVirtualAuthenticator", {"authenticatorId": device})
    without_passkey = options | {"isUserVerified": False}
    devices.send("WebAuthn.addVirtualAuthenticator", {"options": without_passkey})
    page.goto("/accounts/login/")
    page.get_by_role("button", name="Use a passkey instead").click()
    expect(page.get_by_text("The passkey did not work or was cancelled")).to_be_visible()
    look_at(page)
    context.close()


def test_log_out_everywhere_reaches_the_other_device(browser: Browser, site: str) -> None:
    here_context, here = tab(browser, site)
    type_password(here, "everywhere@clinic.example")
    here.get_by_role("link", name="Set up an app").click()
    secret = here.locator("#authenticator_secret").inner_text().strip()
    first = fresh_code(secret)
    here.get_by_label("The six digits").fill(first)
    here.get_by_role("button", name="Finish").click()
    here.wait_for_url(re.compile("/recovery-codes/"))
    recovery_code = here.locator(".recovery-codes code").first.inner_text()

    there_context, there = tab(browser, site)
    type_password(there, "everywhere@clinic.example")
    there.get_by_label("Code", exact=True).fill(recovery_code)
    there.get_by_role("button", name="Go on").click()
    there.wait_for_url(re.compile("/studies/patients/$"))

    here.goto("/accounts/profile/")
    look_at(here)
    here.get_by_role("link", name="Where I am logged in").click()
    expect(here.get_by_role("heading", name=re.compile("Chrome on Linux"))).to_have_count(2)
    look_at(here)
    here.get_by_role("button", name="Log out everywhere", exact=True).click()
    expect(here.get_by_text("You are logged out everywhere")).to_be_visible()
    for page in (here, there):
        page.goto("/studies/")
        assert "/login/" in page.url
    here_context.close()
    there_context.close()
