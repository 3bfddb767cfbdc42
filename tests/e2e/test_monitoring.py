"""An administrator looks at the monitoring of the own hospital, on a desk and on a phone."""

import os
import re
import subprocess
import sys

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Demo, log_in
from tests.e2e.test_sharing import look_at
from tests.tools import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# What a month of runs leaves behind, made by the tests of drift themselves: another noise for the last week.
A_MONTH = """
import datetime
from django.utils import timezone
from accounts.models import User
from ml.drift import compare
from studies.models import MonitoringEpisode, MonitoringRun
from tests.ml.test_drift import CHANGES, a_sample
hospital = User.objects.get(email="admin@example.org").hospital
quiet = [one.to_json() for one in compare(a_sample(1), a_sample(2, patients=40))]
noisy = [one.to_json() for one in compare(a_sample(1), a_sample(3, patients=40, change=CHANGES["noise"]))]
now = timezone.now()
MonitoringRun.objects.filter(hospital=hospital).delete()
for before in range(30):
    at = now - datetime.timedelta(days=before)
    found = noisy if before < 7 else quiet
    MonitoringRun.objects.create(
        hospital=hospital, day=timezone.localdate(at), ran_at=at, model_version="2026.1", answers=90, patients=40,
        window_from=at - datetime.timedelta(days=7), window_until=at, training=found, baseline=found,
        baseline_from=now - datetime.timedelta(days=90), baseline_until=now - datetime.timedelta(days=62),
    )
MonitoringEpisode.objects.create(
    hospital=hospital, model_version="2026.1", compared="baseline", family="input", level="alarm",
    signals=["noise"], opened_at=now - datetime.timedelta(days=5), mailed_at=now,
)
"""


def test_an_administrator_reads_what_has_changed_and_takes_the_report_along(page: Page, demo: Demo) -> None:
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "portal.settings.demo", "IRA_VAR_DIR": str(demo.var_dir)}
    subprocess.run(
        [sys.executable, "manage.py", "shell", "--no-imports", "-c", A_MONTH], cwd=ROOT, env=environment, check=True
    )
    log_in(page, "admin@example.org")
    page.goto("/monitoring/")
    expect(page.get_by_role("heading", name="Monitoring of the model")).to_be_visible()
    expect(page.get_by_role("row", name="what comes in").first).to_contain_text("alarm")
    drawing = page.get_by_role("img", name="Noise and sharpness").first
    expect(drawing).to_have_accessible_name(re.compile("warning from 0.35, alarm from 0.55; alarm"))
    look_at(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="Report as CSV").click()
    assert download.value.suggested_filename.endswith(".csv")
    page.get_by_role("button", name="Begin a new baseline").click()
    expect(page.get_by_text("Please say what has changed on purpose.").first).to_be_visible()
    look_at(page)
