"""A doctor opens a colleague's patient in an emergency, and the patient reads why."""

import os
import re
import subprocess
import sys

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import PASSWORD, Demo, log_in
from tests.e2e.test_sharing import look_at, profile
from tests.tools import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.slow]

REASON = "Unconscious in the emergency room, and the colleague is on the way."
# A second doctor of the demo hospital, and what stands on the wristband of the demo's patient.
COLLEAGUE = f"""
from allauth.account.models import EmailAddress
from django.utils import timezone
from accounts.models import Hospital, User
from studies.models import Patient
patient = Patient.objects.filter(user__email="patient@example.org", hospital__isnull=False).first()
user = User.objects.create_user(
    "urgent@example.org", {PASSWORD!r}, given_name="Uma", family_name="Urgent", role="doctor",
    hospital=patient.hospital, approved_at=timezone.now(),
)
EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
print(f"WRISTBAND {{patient.record_number}} {{patient.birth_date:%Y-%m-%d}}")
"""


def wristband(demo: Demo) -> tuple[str, str]:
    """Add the colleague; return record number and date of birth of the demo's patient."""
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "portal.settings.demo", "IRA_VAR_DIR": str(demo.var_dir)}
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "--no-imports", "-c", COLLEAGUE],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"WRISTBAND (.+) (\d{4}-\d{2}-\d{2})", done.stdout)
    assert found, done.stdout
    return found[1], found[2]


def test_an_emergency_opens_a_record_with_a_banner_and_the_patient_reads_the_reason(
    page: Page, browser: Browser, demo: Demo
) -> None:
    number, born = wristband(demo)
    log_in(page, "urgent@example.org")
    page.goto("/studies/patients/")
    page.get_by_role("link", name="Emergency access").click()
    look_at(page)
    page.get_by_label("Record number").fill(number)
    page.get_by_label("The patient's date of birth").fill(born)
    page.get_by_label("Why you need this record now").fill("urgent")
    page.get_by_role("button", name="Open this record").click()
    expect(page.get_by_text("Please give the reason in a sentence").first).to_be_visible()
    look_at(page)
    page.get_by_label("Why you need this record now").fill(REASON)
    page.get_by_role("button", name="Open this record").click()
    banner = page.get_by_role("complementary", name="Emergency access")
    expect(banner).to_contain_text("Emergency access until")
    look_at(page)
    page.get_by_role("link", name=re.compile("CT|20")).first.click()
    page.wait_for_url(re.compile(r"/studies/[0-9a-f-]{36}/"))
    expect(banner).to_be_visible()
    look_at(page)
    assert "A record was opened in an emergency" in "".join(demo.log)

    patients_profile, patient = profile(browser, demo)
    log_in(patient, "patient@example.org")
    patient.goto("/my-record/history/")
    expect(patient.get_by_text(REASON)).to_be_visible()
    look_at(patient)
    patients_profile.close()
