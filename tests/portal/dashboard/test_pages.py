"""The pages of figures: who may choose what, how much they ask of the database, and what leaves as a file."""

import csv
import io
import math
import re
from datetime import date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pytest_django.asserts import assertContains, assertNotContains

from ml import events
from ml.metrics import per_class_rates
from ml.models import Event
from portal.dashboard.charts import bar_chart, interval_chart, line_chart
from portal.dashboard.estimates import area_under_curve, macro_rates, percentile, share
from portal.dashboard.export import as_csv, harmless
from portal.dashboard.life import training
from portal.dashboard.pages import PAGES
from portal.dashboard.panels import COUNT, MOMENT, SHARE, TEXT, Column, Table
from portal.dashboard.period import Period
from portal.dashboard.scope import Scope
from studies.models import Analysis
from tests.factories import AdministratorFactory, AnalysisFactory, DoctorFactory
from tests.portal.dashboard.world import draw_work

ADDRESSES = [reverse("dashboard:page", args=[name]) for name in PAGES]


def queries(client: Client, address: str) -> int:
    with CaptureQueriesContext(connection) as asked:
        assert client.get(address).status_code == 200
    return sum(query["sql"].startswith("SELECT") and "session" not in query["sql"] for query in asked.captured_queries)


@pytest.mark.django_db
@pytest.mark.parametrize("days", [7, 365])
def test_a_page_asks_the_same_however_much_there_is(client: Client, days: int) -> None:
    doctor = DoctorFactory()
    client.force_login(doctor)
    draw_work(doctor, seed=1, studies=2, days=5)
    few = [queries(client, f"{address}?days={days}") for address in ADDRESSES]
    draw_work(doctor, seed=2, studies=8, days=5)
    assert [queries(client, f"{address}?days={days}") for address in ADDRESSES] == few
    assert max(few) <= 18


@pytest.mark.django_db
def test_a_superuser_chooses_a_hospital_and_nobody_else_does(client: Client) -> None:
    doctor, other = DoctorFactory(), DoctorFactory()
    for person, text in ((doctor, "Own reason."), (other, "Foreign reason.")):
        AnalysisFactory(image__study__created_by=person, has_failed=True)
        Analysis.objects.filter(requested_by=person).update(error=text)
    address = reverse("dashboard:page", args=["work"])
    for person in (doctor, AdministratorFactory(hospital=doctor.hospital)):
        client.force_login(person)
        response = client.get(address, {"hospital": other.hospital_id})
        assertContains(response, "Own reason.")
        assertNotContains(response, "Foreign reason.")
        assertNotContains(response, 'name="hospital"')
    client.force_login(AdministratorFactory(hospital=None, is_superuser=True))
    both = client.get(address)
    assertContains(both, "Own reason.")
    assertContains(both, "Foreign reason.")
    one = client.get(address, {"hospital": other.hospital_id})
    assertContains(one, "Foreign reason.")
    assertNotContains(one, "Own reason.")
    assertContains(one, f"hospital={other.hospital_id}")
    for nonsense in ("x", "00000000-0000-0000-0000-000000000000"):
        assertContains(client.get(address, {"hospital": nonsense, "days": "9999"}), "All hospitals")


@pytest.mark.django_db
def test_no_page_names_a_patient_a_file_or_a_doctor(client: Client) -> None:
    doctor = DoctorFactory(given_name="Vercingetorix")
    analysis = AnalysisFactory(
        image__study__created_by=doctor, image__original_name="Quetzalcoatl.png", has_failed=True
    )
    patient = analysis.image.study.patient
    client.force_login(AdministratorFactory(hospital=doctor.hospital))
    for address in [*ADDRESSES, reverse("dashboard:problems")]:
        text = client.get(address).content.decode()
        for secret in ("Vercingetorix", "Quetzalcoatl", patient.record_number, patient.family_name, str(patient.pk)):
            assert secret not in text


@pytest.mark.django_db
@pytest.mark.parametrize("name", PAGES)
def test_an_empty_page_says_in_sentences_that_there_is_nothing(client: Client, name: str) -> None:
    client.force_login(DoctorFactory())
    response = client.get(reverse("dashboard:page", args=[name]))
    for panel in response.context["panels"]:
        assert panel.table.rows or str(panel.empty).endswith((".", "one."))


@pytest.mark.django_db
def test_a_table_leaves_as_a_file_with_the_numbers_of_the_page(client: Client) -> None:
    doctor = DoctorFactory()
    draw_work(doctor, seed=3, studies=6, days=5)
    client.force_login(doctor)
    for page in PAGES.values():
        shown = client.get(reverse("dashboard:page", args=[page.name]), {"days": 7}).context["panels"]
        for panel in shown:
            response = client.get(reverse("dashboard:table", args=[page.name, panel.key]), {"days": 7})
            assert response["Content-Type"] == "text/csv; charset=utf-8"
            assert response["Content-Disposition"] == f'attachment; filename="{panel.key}-7-days.csv"'
            lines = list(csv.reader(io.StringIO(response.content.decode().removeprefix("\ufeff"))))
            assert len(lines) == 1 + len(panel.table.rows)
            assert lines[0] == [harmless(column.heading) for column in panel.table.columns]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =HYPERLINK(1)", "\n=1"])
def test_no_text_is_a_formula(text: str) -> None:
    columns = (Column("Reason", TEXT), Column("=Count", COUNT))
    lines = list(csv.reader(io.StringIO(as_csv(Table(columns=columns, rows=((text, -3),))), newline="")))
    assert lines[0][1] == "'=Count"
    assert lines[1] == [f"'{text}", "-3"]


def test_a_file_holds_moments_shares_and_gaps_as_they_are() -> None:
    at = datetime(2026, 3, 9, 12, 30, tzinfo=ZoneInfo("UTC"))
    columns = (Column("At", MOMENT), Column("Share", SHARE), Column("None"))
    assert as_csv(Table(columns=columns, rows=((at, 1 / 3, None),))).splitlines()[1] == (
        "2026-03-09T12:30:00+00:00,0.333333,"
    )


@pytest.mark.django_db
def test_problems_are_shown_by_kind_to_administrators(client: Client) -> None:
    doctor = DoctorFactory()
    administrator = AdministratorFactory(hospital=doctor.hospital)
    for hospital, name in (
        (doctor.hospital_id, "StoredPictureError"),
        (doctor.hospital_id, "StoredPictureError"),
        (AdministratorFactory().hospital_id, "UnexpectedAnalysisError"),
    ):
        events.record(
            "inference", message="It failed.", level="error", problem=name, hospital_id=hospital, study_id=hospital
        )
    events.record("training", message="It diverged.", level="error", problem="NotANumberError")
    client.force_login(administrator)
    response = client.get(reverse("dashboard:problems"))
    rows = {row[1]: row[2:4] for row in response.context["panels"][0].table.rows}
    assert rows == {"StoredPictureError": (2, 2), "NotANumberError": (1, 1)}
    assertContains(response, "The store of pictures does not answer")
    assertContains(
        response, reverse("admin:ml_event_change", args=[Event.objects.filter(study_id=doctor.hospital_id)[0].pk])
    )
    assertContains(client.get(reverse("dashboard:problems_table")), "StoredPictureError")


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_wilsons_interval_solves_his_equation() -> None:
    estimate = share(15, 20)
    for end in (estimate.low, estimate.high):
        assert end is not None
        assert abs(0.75 - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / 20))
    assert estimate.low < 0.75 < estimate.high
    assert share(9, 9).value is None
    assert share(10, 10).high == 1.0
    assert share(0, 10).low == 0.0


def test_percentiles_are_nearest_ranks() -> None:
    counts = {10: 50, 20: 45, 30: 4, 40: 1}
    assert [percentile(counts, share=part) for part in (0.5, 0.95, 0.99, 1.0)] == [10, 20, 30, 40]
    assert percentile({}, share=0.5) is None
    assert percentile({7: 1}, share=0.01) == 7


def test_macro_rates_are_those_of_the_metrics_with_an_interval_around_them() -> None:
    matrix = np.array([[40, 5, 0], [10, 30, 0], [0, 0, 0]])
    found = macro_rates(matrix)
    rates = per_class_rates(matrix.astype(float))
    for name, estimate in found.items():
        assert estimate.value == pytest.approx(float(np.mean(rates[name][:2])))
        assert estimate.low < estimate.value < estimate.high
    assert found == macro_rates(matrix), "the same table, the same interval"
    assert macro_rates(np.array([[4, 0], [0, 5]]))["f1"].value is None


def test_the_area_is_the_share_of_pairs_in_order_and_its_interval_covers() -> None:
    draw = np.random.default_rng(3)
    malignant, benign = draw.normal(1, 1, 60).round(1), draw.normal(0, 1, 40).round(1)
    estimate = area_under_curve(list(malignant), list(benign))
    wins = sum((one > other) + 0.5 * (one == other) for one in malignant for other in benign)
    assert estimate.value == pytest.approx(wins / 2400)
    assert estimate.low < 0.76 < estimate.high  # what two normal curves one apart have: 0.760
    assert 0.1 < estimate.high - estimate.low < 0.25
    assert area_under_curve([0.9] * 20, [0.1] * 20).low is None
    assert area_under_curve([0.9] * 20, [0.1]).value is None


@pytest.mark.parametrize("days", [7, 30, 90, 365])
@pytest.mark.parametrize("today", [date(2026, 3, 29), date(2026, 10, 25), date(2028, 2, 29), date(2026, 1, 1)])
def test_a_period_is_whole_days_without_gaps_across_changes_of_the_clock(settings, days: int, today: date) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    period = Period.last(days, today=today)
    assert (period.end.date() - period.start.date()).days == days
    assert all(one.end == two.start for one, two in zip(period.buckets, period.buckets[1:], strict=False))
    assert period.buckets[-1].start.date() <= today
    assert len(period.buckets) == {7: 7, 30: 30, 90: 13}.get(days, len(period.buckets))
    assert len({bucket.label for bucket in period.buckets}) >= len(period.buckets) - 1


# --- charts -----------------------------------------------------------------------------------------------------------


def test_a_line_breaks_where_nothing_is_known() -> None:
    chart = line_chart([("a", [1.0, 2.0, None, 4.0])], labels=list("abcd"), summary="s")
    assert chart is not None
    assert len(chart.lines[0].stretches) == 1
    assert len(chart.lines[0].dots) == 3
    assert line_chart([("a", [None, None])], labels=list("ab"), summary="s") is None


def test_bars_stand_on_each_other_and_reach_their_sum() -> None:
    chart = bar_chart([("a", [3, 0]), ("b", [5, 0])], labels=["x", "y"], summary="s")
    assert chart is not None
    lower, upper = chart.bars
    assert upper.y + upper.height == pytest.approx(lower.y, abs=0.11)
    assert upper.y == pytest.approx(chart.ticks[-1].at, abs=0.11)
    assert bar_chart([("a", [0, 0])], labels=["x", "y"], summary="s") is None


def test_a_long_label_leaves_room_for_its_value() -> None:
    chart = interval_chart([("x" * 90, 0.5, 0.4, 0.6, "50.0 %"), ("short", 0.5, None, None, "50.0 %")], summary="s")
    assert chart is not None
    assert chart.whiskers[0].label.endswith("…")
    assert 6.4 * len(chart.whiskers[0].label) + 7.6 * len("50.0 %") < 340
    assert chart.whiskers[1].label == "short"


def test_an_interval_that_is_unknown_is_not_drawn() -> None:
    chart = interval_chart([("a", 0.5, 0.4, 0.6, "50 %"), ("b", None, None, None, "too few")], summary="s")
    assert chart is not None
    assert chart.whiskers[1].value is None
    assert chart.whiskers[0].low < chart.whiskers[0].value < chart.whiskers[0].high
    assert interval_chart([("b", None, None, None, "too few")], summary="s") is None


@pytest.mark.django_db
def test_numbers_of_drawings_are_never_written_with_a_comma(client: Client) -> None:
    doctor = DoctorFactory(language="de")
    draw_work(doctor, seed=4, studies=6, days=5)
    client.force_login(doctor)
    for address in ADDRESSES:
        text = client.get(address, {"days": 7}, headers={"accept-language": "de"}).content.decode()
        places = re.findall(r' (?:x|y|x1|x2|y1|y2|cx|cy|width|height|r)="([^"]*)"', text)
        assert all(re.fullmatch(r"-?[\d.]+", one) for one in places)


def test_training_curves_come_from_the_card_and_their_absence_is_said() -> None:
    scope = Scope(period=Period.last(7), hospital=None, hospitals=(), is_administrator=True)
    scope.__dict__["card"] = {
        "version": "v",
        "training": {
            "history": {
                "classifier": [
                    {"step": 10, "loss": 1.2, "valid_accuracy": 0.4},
                    {"step": 20, "loss": 0.9, "valid_accuracy": 0.6},
                ],
                "outline": "nonsense",
            }
        },
    }
    panel = training(scope)
    assert [row[2] for row in panel.table.rows] == [1.2, 0.9]
    assert panel.table.rows[1][3:] == ("accuracy", 0.6)
    assert panel.chart is not None
    scope.__dict__["card"] = {"version": "v", "training": {}}
    assert training(scope).table.rows == ()
    assert "holds no history" in training(scope).empty
