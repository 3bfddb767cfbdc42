"""The figures on the dashboard equal a recount from the database: every row read, counted in plain Python."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import RequestFactory
from django.utils import timezone, translation

from accounts.models import Hospital, User
from portal.dashboard import life, quality, speed, work
from portal.dashboard.panels import Panel
from portal.dashboard.scope import Scope, scope_of
from reports.models import Report
from studies.agreement import agreement, compare_all
from studies.models import (
    Analysis,
    FindingReview,
    FirstImpression,
    Image,
    ImageReview,
    InferenceRecord,
    Study,
)
from tests.factories import AdministratorFactory, DoctorFactory, HospitalFactory, ReportFactory
from tests.portal.dashboard.world import CLASSES, draw_work

pytestmark = pytest.mark.django_db


@pytest.fixture(params=[(1, 7), (2, 30), (3, 90), (4, 365)], ids=["7 days", "30 days", "90 days", "365 days"])
def case(request, settings) -> Iterator[tuple[int, int]]:
    settings.TIME_ZONE = "Europe/Berlin"
    # A request of another test may have left its language behind, and rows are found by their English names.
    with timezone.override("Europe/Berlin"), translation.override("en-gb"):
        yield request.param


def scope(user: User, *, days: int, **query: Any) -> Scope:
    request = RequestFactory().get("/", {"days": days, **query})
    request.user = user
    return scope_of(request)


def inside(of: Scope, moment: Any) -> bool:
    """Whether a moment lies in the last so many local days."""
    today = timezone.localdate()
    return moment is not None and 0 <= (today - timezone.localtime(moment).date()).days < of.period.days


def hospital_of(study: Study) -> Hospital | None:
    return study.patient.hospital


def mine(of: Scope, study: Study) -> bool:
    return of.hospital is None or hospital_of(study) == of.hospital


def nearest_rank(values: Iterable[float], share: float) -> float | None:
    ordered = sorted(values)
    return ordered[math.ceil(round(share * len(ordered), 9)) - 1] if ordered else None


def rows_of(panel: Panel) -> dict[Any, tuple[Any, ...]]:
    return {row[0]: row[1:] for row in panel.table.rows}


def place(of: Scope, moment: Any) -> str:
    """Return the label of the stretch of time, found by looking at each."""
    return next(bucket.label for bucket in of.period.buckets if bucket.start <= moment < bucket.end)


def test_every_figure_equals_a_recount(case: tuple[int, int]) -> None:
    seed, days = case
    doctor, other = DoctorFactory(), DoctorFactory()
    draw_work(doctor, seed=seed, days=days + 5, studies=12)
    draw_work(other, seed=seed + 100, days=days + 5, studies=4)
    for number in range(3):
        report = ReportFactory(is_signed=True, is_released=number == 0)
        Study.objects.filter(pk=report.study_id).update(created_at=timezone.now() - timedelta(hours=number + 1))
    root = AdministratorFactory(hospital=None, is_superuser=True)
    everything = scope(root, days=days)
    for make in (quality.against_doctors, quality.findings, quality.first_impressions, work.turnaround, work.failures):
        assert make(everything).table.rows, "nothing was drawn that this counts"
    for asked in (
        scope(doctor, days=days),
        scope(root, days=days),
        scope(root, days=days, hospital=other.hospital_id),
    ):
        recount_speed(asked)
        recount_quality(asked)
        recount_work(asked)


def recount_speed(asked: Scope) -> None:
    records = [
        record
        for record in InferenceRecord.objects.select_related("analysis__image__study__patient")
        if inside(asked, record.created_at) and mine(asked, record.analysis.image.study)
    ]
    parts = defaultdict(list)
    for record in records:
        parts[place(asked, record.created_at)].append(record)
    durations, waits = rows_of(speed.durations(asked)), rows_of(speed.waits(asked))
    answers, versions = rows_of(speed.throughput(asked)), life.versions(asked)
    if not records:
        assert not durations
        return
    shares = (0.5, 0.95, 0.99)
    for label in (bucket.label for bucket in asked.period.buckets):
        part = parts[label]
        took = [record.duration_ms for record in part]
        tenths = [record.queue_wait_ms // 100 / 10 for record in part]
        assert durations[label] == (len(part), *(nearest_rank(took, share) for share in shares))
        assert waits[label] == pytest.approx((len(part), *(nearest_rank(tenths, share) for share in shares)))
        assert answers[label] == (len(part),)
    whole = [record.duration_ms for record in records]
    assert durations["Whole period"] == (len(records), *(nearest_rank(whole, share) for share in shares))
    names = [column.label for column in versions.table.columns[1:]]
    by_version = Counter(record.model_version for record in records)
    columns = list(zip(*versions.table.rows, strict=True))[1:]
    assert {name: sum(column) for name, column in zip(names, columns, strict=True)} == dict(by_version)
    mean = sum(record.step_ms["classify"] for record in records) / len(records)
    assert rows_of(speed.steps(asked))["2. Class of the slice"][0] == pytest.approx(mean)


def recount_quality(asked: Scope) -> None:
    latest: dict[Any, ImageReview] = {}
    for review in ImageReview.objects.select_related("image__study__patient").order_by("revision"):
        latest[review.image_id] = review
    pairs = []
    for review in latest.values():
        if not (mine(asked, review.image.study) and inside(asked, review.at)) or review.diagnosis == "unsure":
            continue
        said = [
            record
            for record in InferenceRecord.objects.filter(analysis__image=review.image)
            if record.model_version == asked.version
        ]
        if said:
            pairs.append((review.diagnosis, max(said, key=lambda record: record.pk)))
    shown = rows_of(quality.against_doctors(asked))
    if pairs:
        right = sum(diagnosis == record.top_class for diagnosis, record in pairs)
        value, low, high, count = shown["Accuracy"]
        assert count == len(pairs)
        if len(pairs) < 10:
            assert value is low is high is None
        else:
            assert value == pytest.approx(right / len(pairs))
            assert low < value < high or value in (low, high)
            recalls = []
            for name in CLASSES:
                of_class = [record for diagnosis, record in pairs if diagnosis == name]
                if of_class:
                    recalls.append(sum(record.top_class == name for record in of_class) / len(of_class))
            assert shown["Recall"][0] == pytest.approx(sum(recalls) / len(recalls))
        table = rows_of(quality.confusion(asked))
        assert sum(map(sum, table.values())) == (len(pairs) if len(pairs) >= 10 else 0)
        malignant = [record.malignant_probability for diagnosis, record in pairs if diagnosis != "normal"]
        benign = [record.malignant_probability for diagnosis, record in pairs if diagnosis == "normal"]
        if min(len(malignant), len(benign)) >= 5 and len(pairs) >= 10:
            wins = sum((a > b) + 0.5 * (a == b) for a in malignant for b in benign)
            assert shown["AUC, malignant or not"][0] == pytest.approx(wins / len(malignant) / len(benign))
    else:
        assert not shown
    newest: dict[Any, FindingReview] = {}
    for verdict in FindingReview.objects.select_related("finding__analysis", "image__study__patient").order_by(
        "revision"
    ):
        newest[verdict.lesion_id] = verdict
    counts: Counter[str] = Counter()
    for verdict in newest.values():
        if not (mine(asked, verdict.image.study) and inside(asked, verdict.at)):
            continue
        if verdict.finding is None:
            counts["added"] += verdict.verdict != "rejected"
        elif verdict.finding.analysis.model_version == asked.version:
            counts[verdict.verdict] += 1
    shown = rows_of(quality.findings(asked))
    judged = counts["accepted"] + counts["corrected"] + counts["rejected"]
    if shown:
        assert shown["Right as they were"][3] == judged
        assert shown["Right as they were"][0] == (pytest.approx(counts["accepted"] / judged) if judged >= 10 else None)
        assert shown["Added by doctors, of all that there is"][3] == (
            counts["added"] + counts["accepted"] + counts["corrected"]
        )
    else:
        assert not judged
    impressions = [
        one
        for one in FirstImpression.objects.select_related("study__patient__hospital")
        if mine(asked, one.study) and inside(asked, one.noted_at)
    ]
    counted = agreement(compare_all(impressions))
    shown = rows_of(quality.first_impressions(asked))
    if impressions:
        assert shown["The same class"][0] == counted.same_class
        assert shown["Another class"][0] == counted.other_class
        assert shown["The doctor was unsure"][0] == counted.class_undecided
        assert shown["No answer yet"][0] == counted.noted - counted.compared


def recount_work(asked: Scope) -> None:
    studies = [one for one in Study.objects.select_related("patient__hospital") if mine(asked, one)]
    slices = [one for one in Image.objects.select_related("study__patient__hospital") if mine(asked, one.study)]
    received = rows_of(work.uploads(asked))
    if received:
        of_studies = Counter(place(asked, one.created_at) for one in studies if inside(asked, one.created_at))
        of_slices = Counter(place(asked, one.created_at) for one in slices if inside(asked, one.created_at))
        assert received == {label: (of_studies[label], of_slices[label]) for label in asked.period.labels}
    ended = [
        one
        for one in Analysis.objects.select_related("image__study__patient__hospital")
        if mine(asked, one.image.study) and inside(asked, one.finished_at)
    ]
    states = Counter(one.state for one in ended)
    outcomes = rows_of(work.outcomes(asked))
    if ended:
        assert outcomes["Whole period"][:3] == (states["succeeded"], states["failed"], states["cancelled"])
        for label in asked.period.labels:
            part = Counter(one.state for one in ended if place(asked, one.finished_at) == label)
            assert outcomes[label][:3] == (part["succeeded"], part["failed"], part["cancelled"])
    reasons = Counter(one.error for one in ended if one.state == "failed")
    assert rows_of(work.failures(asked)) == {reason: (count,) for reason, count in reasons.items()}
    reports = [one for one in Report.objects.select_related("study__patient__hospital") if mine(asked, one.study)]
    shown = rows_of(work.reports(asked))
    unreported = sum(one.state == "succeeded" and not one.reports.exists() for one in studies)
    by_state = Counter(one.state for one in reports if one.superseded_at is None)
    if shown:
        assert shown["1. No report yet, answered"] == (unreported,)
        assert [count for (count,) in list(shown.values())[1:]] == [by_state[state] for state in Report.State.values]
    signed = [one for one in reports if inside(asked, one.signed_at) and one.version == 1]
    hours = [(one.signed_at - one.study.created_at).total_seconds() // 60 / 60 for one in signed]
    shown = rows_of(work.turnaround(asked))
    if signed:
        assert shown["Whole period"] == pytest.approx((len(signed), nearest_rank(hours, 0.5), nearest_rank(hours, 0.9)))
    else:
        assert not shown


def test_a_hospital_counts_nothing_of_another(db: None) -> None:
    doctor = DoctorFactory()
    draw_work(DoctorFactory(hospital=HospitalFactory()), seed=5)
    for make in (speed.durations, speed.waits, speed.throughput, speed.steps, work.uploads, work.outcomes):
        assert make(scope(doctor, days=365)).table.rows == ()
    for make in (quality.against_doctors, quality.findings, quality.first_impressions, work.failures, work.turnaround):
        assert make(scope(doctor, days=365)).table.rows == ()
