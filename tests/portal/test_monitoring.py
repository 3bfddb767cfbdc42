"""The pages of monitoring show what the runs found, to whoever looks after the hospital, and give it away as files."""

import csv
import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django.asserts import assertContains, assertNotContains

from ml.drift import SIGNALS, Comparison, compare
from portal.monitoring_charts import charts_of
from studies.models import MonitoringBaseline, MonitoringEpisode, MonitoringRun
from tests.factories import (
    AdministratorFactory,
    AnalysisFactory,
    HospitalFactory,
    ImageFactory,
    PatientFactory,
    StudyFactory,
)
from tests.ml.test_drift import CHANGES, a_sample

pytestmark = pytest.mark.django_db
DAYS = 6


@pytest.fixture(scope="module")
def found() -> list[tuple[Comparison, ...]]:
    """What six days' runs found: three quiet ones, then another noise."""
    quiet = compare(a_sample(1), a_sample(2, patients=40))
    noisy = compare(a_sample(1), a_sample(3, patients=40, change=CHANGES["noise"]))
    return [quiet, quiet, quiet, noisy, noisy, noisy]


@pytest.fixture
def hospital(found: list[tuple[Comparison, ...]]) -> Any:
    place = HospitalFactory(name="St. Elsewhere")
    now = timezone.now()
    for number, comparisons in enumerate(found):
        at = now - timedelta(days=DAYS - 1 - number)
        stored = [one.to_json() for one in comparisons]
        MonitoringRun.objects.create(
            hospital=place,
            day=timezone.localdate(at),
            ran_at=at,
            model_version="2026.1",
            window_from=at - timedelta(days=7),
            window_until=at,
            answers=90,
            patients=40,
            baseline_from=now - timedelta(days=60),
            baseline_until=now - timedelta(days=32),
            training=stored,
            baseline=stored,
        )
    MonitoringEpisode.objects.create(
        hospital=place,
        model_version="2026.1",
        compared="baseline",
        family="input",
        level="alarm",
        signals=["noise"],
        opened_at=now,
        mailed_at=now,
    )
    return place


def as_administrator(client: Client, hospital: Any) -> Any:
    administrator = AdministratorFactory(hospital=hospital)
    client.force_login(administrator)
    return administrator


def test_an_administrator_is_led_to_the_own_hospital_and_a_superuser_to_the_list(client: Client, hospital: Any) -> None:
    as_administrator(client, hospital)
    response = client.get(reverse("monitoring"))
    assert response.headers["Location"] == reverse("monitoring_hospital", args=[hospital.pk])
    other = HospitalFactory(name="Other Place")
    assert client.get(reverse("monitoring_hospital", args=[other.pk])).status_code == 404
    client.force_login(AdministratorFactory(is_superuser=True, hospital=None))
    page = client.get(reverse("monitoring"))
    assertContains(page, "St. Elsewhere")
    assertContains(page, "Other Place")
    assertContains(page, "what comes in: alarm")
    assertContains(page, "nothing that lasts")


def test_the_page_shows_episodes_and_every_signal_in_words_and_lines(client: Client, hospital: Any) -> None:
    as_administrator(client, hospital)
    page = client.get(reverse("monitoring_hospital", args=[hospital.pk]))
    assertContains(page, "Noise and sharpness", count=5)  # the episode; heading and drawing of two references
    assertContains(page, '<figure class="plot">', count=2 * len(SIGNALS))
    assertContains(page, "7 days: 90 answers about 40 patients")
    assertContains(page, "60 in the reference, 40 now")
    assertContains(page, "(mailed)")
    assertContains(page, "Shown only", count=6)
    assertNotContains(page, "style=")


def test_a_drawing_tells_when_it_changed_and_how_far_the_levels_are(hospital: Any) -> None:
    runs = list(MonitoringRun.objects.filter(hospital=hospital).order_by("day"))
    charts = {chart.name: chart for chart in charts_of(runs, compared="baseline")}
    noise = charts["noise"]
    assert (noise.level, noise.badge) == ("alarm", "failed")
    (line,) = noise.lines
    heights = [float(point.split(",")[1]) for point in line.split()]
    assert len(heights) == DAYS
    assert max(heights[3:]) < min(heights[:3])  # the y axis points down
    assert noise.dot is not None
    assert noise.dot.y == heights[-1]
    warn, alarm = (mark.y for mark in noise.marks[1:])
    assert heights[-1] < alarm < warn < min(heights[:3])
    assert "alarm from 0.55; alarm." in noise.summary
    assert charts["histogram"].level == "quiet"
    assert charts_of([], compared="baseline") == ()


def test_a_run_that_could_not_tell_breaks_the_line(hospital: Any) -> None:
    runs = list(MonitoringRun.objects.filter(hospital=hospital).order_by("day"))
    for values in runs[2].baseline:
        values.update(level="unknown", effect=None, p=None, adjusted_p=None)
    charts = charts_of(runs, compared="baseline")
    assert [len(line.split()) for line in charts[0].lines] == [2, 3]


def test_before_the_first_run_the_page_says_so(client: Client) -> None:
    hospital = HospitalFactory()
    as_administrator(client, hospital)
    assertContains(client.get(reverse("monitoring_hospital", args=[hospital.pk])), "The first run is made")
    MonitoringRun.objects.create(
        hospital=hospital, day=timezone.localdate(), note="The model has answered nothing here in the last four weeks."
    )
    page = client.get(reverse("monitoring_hospital", args=[hospital.pk]))
    assertContains(page, "answered nothing here in the last four weeks")
    assertContains(page, "no episode is open")


def test_the_reports_hold_what_the_page_shows_and_nobody_s_name(client: Client, hospital: Any) -> None:
    patient = PatientFactory(given_name="Wilhelmine", family_name="Zwetschgenbaum", record_number="SECRET-9")
    AnalysisFactory.create(image=ImageFactory(study=StudyFactory(patient=patient, created_by=patient.created_by)))
    as_administrator(client, hospital)
    as_csv = client.get(reverse("monitoring_csv", args=[hospital.pk]))
    assert as_csv.headers["Content-Disposition"].endswith('.csv"')
    lines = list(csv.DictReader(io.StringIO(as_csv.content.decode())))
    assert len(lines) == DAYS * 2 * len(SIGNALS)
    last = [line for line in lines if line["signal"] == "noise" and line["compared_with"] == "baseline"][-1]
    stored = {one.signal: one for one in MonitoringRun.objects.filter(hospital=hospital)[0].comparisons("baseline")}
    assert float(last["effect"]) == stored["noise"].effect
    assert (last["level"], last["alarm_from"]) == ("alarm", "0.55")
    content = client.get(reverse("monitoring_json", args=[hospital.pk])).content.decode()
    told = json.loads(content)
    assert [run["baseline"] for run in told["runs"]] == [
        run.baseline for run in MonitoringRun.objects.filter(hospital=hospital).order_by("day")
    ]
    assert told["episodes"][0]["signals"] == ["noise"]
    for word in ("Wilhelmine", "Zwetschgenbaum", "SECRET-9"):
        assert word not in content + as_csv.content.decode()


def test_an_administrator_declares_the_present_to_be_normal(client: Client, hospital: Any) -> None:
    administrator = as_administrator(client, hospital)
    address = reverse("monitoring_baseline", args=[hospital.pk])
    refused = client.post(address, {"reason": " "})
    assert refused.status_code == 400
    assertContains(refused, "Please say what has changed on purpose.", status_code=400)
    nothing = client.post(address, {"reason": "A new scanner"}, follow=True)
    assertContains(nothing, "nothing to start from")
    patient = PatientFactory(created_by__hospital=hospital)
    study = StudyFactory(patient=patient, created_by=patient.created_by)
    AnalysisFactory.create(image=ImageFactory(study=study), is_done=True)
    done = client.post(address, {"reason": "A new scanner"}, follow=True)
    assertContains(done, "The baseline begins anew today.")
    assertContains(done, "a new baseline was set")
    baseline = MonitoringBaseline.objects.get()
    assert (baseline.set_by, baseline.reason, baseline.model_version) == (administrator, "A new scanner", "test-1")
    assert not MonitoringEpisode.objects.get().is_open


def test_the_menu_leads_there(client: Client, hospital: Any) -> None:
    as_administrator(client, hospital)
    page = client.get(reverse("monitoring_hospital", args=[hospital.pk]))
    assertContains(page, f'href="{reverse("monitoring")}"')


def test_the_mail_names_a_page_of_the_menu() -> None:
    template = Path(__file__).resolve().parents[2] / "templates/studies/email/monitoring_episode.txt"
    assert "Monitoring" in template.read_text(encoding="utf-8")
