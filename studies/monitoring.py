"""Watches the model where it works: a hospital's latest answers beside the training reference and its own baseline.

One run a day and hospital. What is compared, and when a difference counts, stands in ``ml.drift``; which of the two
references is asked when, in ``docs/monitoring.md``.
"""

import datetime
import logging
import smtplib
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from django.conf import settings
from django.core.mail import send_mail
from django.db import IntegrityError, models, transaction
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from accounts.language import speaking_to
from accounts.models import Hospital, Role, User
from ml import events
from ml.drift import (
    LARGEST_SAMPLE,
    SIGNALS,
    Answer,
    Comparison,
    Level,
    Policy,
    Sample,
    believed,
    compare,
    is_quiet_again,
    one_of_each,
)
from ml.errors import MlError
from ml.models import ModelVersion
from ml.reference import Reference, read_reference
from ml.runtime import model_directory
from studies.models import Diagnosis, ImageReview, InferenceRecord
from studies.models.monitoring import Compared, MonitoringBaseline, MonitoringEpisode, MonitoringRun

logger = logging.getLogger(__name__)

DAY: Final = datetime.timedelta(days=1)
# A window that holds too few patients is made longer, up to four times; judgements are rarer than answers.
WINDOW_STEPS: Final = (1, 2, 4)
BASELINE_DAYS: Final = 28
BASELINE_PATIENTS: Final = 60
BASELINE_DAYS_AT_MOST: Final = 182
# Against the training data these speak; the others are shown only, because they differ between any teaching collection
# and any hospital: how many tumours there are in it, how its pictures were exported.
SPEAK_AGAINST_TRAINING: Final = frozenset({"histogram", "embedding", "agreement"})
# So long one turn of the sweeper goes on with further hospitals.
TURN_S: Final = 20

NO_ANSWERS = gettext_noop("The model has answered nothing here in the last four weeks.")
NO_REFERENCE = gettext_noop(
    "The model that answers here has no training reference of its own. Make one: manage.py make_reference."
)
BAD_REFERENCE = gettext_noop("The training reference cannot be read. Make it again: manage.py make_reference.")
WENT_WRONG = gettext_noop("This run failed unexpectedly; the log of the worker says more. The next one is tomorrow's.")


@dataclass(frozen=True, kw_only=True)
class Span:
    """A stretch of time, its end not included."""

    start: datetime.datetime
    end: datetime.datetime


@dataclass(kw_only=True)
class Findings:
    """What one run found, before it is stored."""

    model_version: str = ""
    window: Span | None = None
    answers: int = 0
    patients: int = 0
    baseline_span: Span | None = None
    compared: dict[str, tuple[Comparison, ...]] = field(default_factory=dict)
    note: str = ""


def sweep() -> dict[str, int]:
    """Monitor the hospitals whose run of today is missing, as many as fit into a turn; return how many.

    Called every minute and safe to run twice: the first to store a run of the day wins. After a pause of the worker
    the day's run is made late; days that have passed are not made up for.
    """
    started, now = time.monotonic(), timezone.now()
    done = 0
    today = MonitoringRun.objects.filter(hospital=models.OuterRef("pk"), day=timezone.localdate(now))
    for hospital in Hospital.objects.filter(~models.Exists(today)).order_by("pk"):
        done += monitor(hospital, now=now) is not None
        if time.monotonic() - started > TURN_S:
            break
    return {"monitored": done}


def monitor(hospital: Hospital, *, now: datetime.datetime) -> MonitoringRun | None:
    """Compare a hospital's latest answers, store the run, open and close episodes, and mail new ones.

    Returns None where today's run is there already. Comparing happens outside of any transaction.
    """
    try:
        findings = look(hospital, now=now)
    except Exception as error:
        logger.exception("Monitoring of hospital %s failed.", hospital.pk)
        events.record_problem(
            "monitoring", error=error, message="A monitoring run failed unexpectedly.", hospital_id=hospital.pk
        )
        findings = Findings(note=WENT_WRONG)
    run = _store(hospital, findings=findings, now=now)
    if run is None:
        return None
    for episode in MonitoringEpisode.objects.filter(hospital=hospital, closed_at=None, mailed_at=None):
        tell_administrators(episode)
    return run


def look(hospital: Hospital, *, now: datetime.datetime) -> Findings:
    """Compare the latest answers of the model that answers at a hospital; nothing is stored."""
    longest = Span(start=now - WINDOW_STEPS[-1] * settings.MONITORING_WINDOW_DAYS * DAY, end=now)
    version = _records(hospital, span=longest).order_by("-created_at").values_list("model_version", flat=True).first()
    if version is None:
        return Findings(note=NO_ANSWERS)
    window, keys = _window(hospital, version=version, now=now)
    sample = Sample(answers=_answers(keys), agreement=_agreement(hospital, version=version, span=longest))
    findings = Findings(model_version=version, window=window, answers=len(keys), patients=len({key for key, _ in keys}))
    try:
        reference = _training_reference(version)
    except MlError:
        logger.exception("The training reference cannot be read.")
        findings.note, reference = BAD_REFERENCE, None
    else:
        findings.note = "" if reference is not None else NO_REFERENCE
    # The same seed every time: a run can be made again and says the same.
    if reference is not None:
        findings.compared[Compared.TRAINING] = compare(reference.sample, sample)
    findings.baseline_span = baseline_of(hospital, version=version, before=window.start)
    if findings.baseline_span is not None:
        baseline = _sample(hospital, version=version, span=findings.baseline_span)
        findings.compared[Compared.BASELINE] = compare(baseline, sample)
    return findings


def baseline_of(hospital: Hospital, *, version: str, before: datetime.datetime) -> Span | None:
    """Return the time that a hospital's own baseline is made of, or None while it is not complete before ``before``.

    It begins with the version's first answer here, or when an administrator last declared the present to be normal,
    and lasts four weeks, or longer until it holds sixty patients. It is read anew each time, so that what is erased is
    out of it at once.
    """
    set_at = MonitoringBaseline.objects.filter(hospital=hospital, model_version=version).order_by("-starts_at")
    start = set_at.values_list("starts_at", flat=True).first()
    if start is None:
        start = _records(hospital, version=version).aggregate(first=models.Min("created_at"))["first"]
    if start is None:
        return None
    for days in range(BASELINE_DAYS, BASELINE_DAYS_AT_MOST + 1, 7):
        span = Span(start=start, end=start + days * DAY)
        if span.end > before:
            return None
        patients = _records(hospital, version=version, span=span).values("analysis__image__study__patient").distinct()
        if patients.count() >= BASELINE_PATIENTS:
            return span
    return None


def set_baseline(hospital: Hospital, *, by: User, reason: str, now: datetime.datetime) -> MonitoringBaseline | None:
    """Declare that from now on a hospital's answers are normal, and close what was open against the former baseline.

    Returns None where the model has answered nothing here, so that there is nothing to declare.
    """
    latest = _records(hospital).order_by("-created_at").values_list("model_version", flat=True).first()
    if latest is None:
        return None
    with transaction.atomic():
        baseline = MonitoringBaseline.objects.create(
            hospital=hospital, model_version=latest, starts_at=now, reason=reason.strip()[:300], set_by=by
        )
        for episode in MonitoringEpisode.objects.filter(
            hospital=hospital, compared=Compared.BASELINE, closed_at__isnull=True
        ):
            episode.close(MonitoringEpisode.Ending.ACCEPTED, at=now)
    events.record(
        "monitoring", message="A new baseline was set.", hospital_id=hospital.pk, run_id=baseline.pk, version=latest
    )
    return baseline


def tell_administrators(episode: MonitoringEpisode) -> bool:
    """Mail an episode to the administrators of its hospital (to the superusers where there are none), once.

    Returns whether a mail left. If none did, the next run tries again.
    """
    if not episode.claim_mail():
        return False
    has_left = False
    for administrator in _administrators(episode.hospital):
        with speaking_to(administrator):
            subject = (
                _("Alarm: something has changed for the model")
                if episode.level == MonitoringEpisode.Level.ALARM
                else _("Warning: something may have changed for the model")
            )
            message = render_to_string(
                "studies/email/monitoring_episode.txt",
                {"episode": episode, "signals": [signal_label(name) for name in episode.signals]},
            )
        try:
            send_mail(
                subject=subject,
                message=message,
                from_email=settings.DEFAULT_FROM_EMAIL,
                recipient_list=[administrator.email],
            )
            has_left = True
        except (smtplib.SMTPException, OSError):
            logger.exception("A monitoring episode could not be mailed to %s.", administrator.pk)
    if not has_left:
        episode.give_mail_back()
    return has_left


def signal_label(name: str) -> str:
    """Return a signal as people read it, in the reader's language."""
    return {
        "histogram": _("Brightness and contrast (histogram)"),
        "noise": _("Noise and sharpness"),
        "size": _("Size of the pictures"),
        "source": _("Kind of file"),
        "embedding": _("What the network sees (embedding)"),
        "classes": _("Classes that the model names"),
        "malignancy": _("Probability of malignancy"),
        "confidence": _("Confidence"),
        "agreement": _("Agreement with the doctors' diagnoses"),
    }.get(name, name)


# --- gathering --------------------------------------------------------------------------------------------------------


def _records(
    hospital: Hospital, *, version: str | None = None, span: Span | None = None
) -> models.QuerySet[InferenceRecord]:
    """Answers about pictures of a hospital's records. What a patient uploaded alone belongs to no hospital."""
    records = InferenceRecord.objects.filter(analysis__image__study__patient__hospital=hospital).order_by()
    if version is not None:
        records = records.filter(model_version=version)
    if span is not None:
        records = records.filter(created_at__gte=span.start, created_at__lt=span.end)
    return records


def _keys(hospital: Hospital, *, version: str, span: Span) -> list[tuple[uuid.UUID, int]]:
    records = _records(hospital, version=version, span=span)
    return list(records.values_list("analysis__image__study__patient_id", "id"))


def _window(hospital: Hospital, *, version: str, now: datetime.datetime) -> tuple[Span, list[tuple[uuid.UUID, int]]]:
    """Return the shortest window that holds enough patients, or the longest, and (patient, record) of its answers."""
    for step in WINDOW_STEPS:
        span = Span(start=now - step * settings.MONITORING_WINDOW_DAYS * DAY, end=now)
        keys = _keys(hospital, version=version, span=span)
        if len({patient for patient, _record in keys}) >= Policy().minimum_window:
            break
    return span, keys


def _sample(hospital: Hospital, *, version: str, span: Span) -> Sample:
    keys = _keys(hospital, version=version, span=span)
    return Sample(answers=_answers(keys), agreement=_agreement(hospital, version=version, span=span))


def _answers(keys: Iterable[tuple[uuid.UUID, int]]) -> tuple[Answer, ...]:
    chosen = InferenceRecord.objects.in_bulk(one_of_each(keys))
    return tuple(
        Answer(
            statistics=record.input_statistics,
            top_class=record.top_class,
            confidence=record.confidence,
            malignant_probability=record.malignant_probability,
            embedding=record.embedding_vector,
        )
        for _key, record in sorted(chosen.items())
    )


def _agreement(hospital: Hospital, *, version: str, span: Span) -> tuple[float, ...]:
    """Return for each patient with judged slices the share of them whose class the model named too.

    A judgement is the latest one of its slice, given within the span; "unsure" is none. It is held against the
    version's newest answer about the slice.
    """
    reviews = (
        ImageReview.objects.latest_per_image()
        .filter(image__study__patient__hospital=hospital, at__gte=span.start, at__lt=span.end)
        .exclude(diagnosis=Diagnosis.UNSURE)
    )
    judged = {
        image: (patient, diagnosis)
        for image, patient, diagnosis in reviews.order_by().values_list(
            "image_id", "image__study__patient_id", "diagnosis"
        )
    }
    said = InferenceRecord.objects.filter(
        analysis__image__in=reviews.order_by().values("image_id"), model_version=version
    ).order_by("created_at", "id")
    named = dict(said.values_list("analysis__image_id", "top_class"))
    shares: defaultdict[uuid.UUID, list[bool]] = defaultdict(list)
    for image, (patient, diagnosis) in judged.items():
        if image in named:
            shares[patient].append(named[image] == diagnosis)
    drawn = sorted(shares.items(), key=lambda pair: str(pair[0]))[:LARGEST_SAMPLE]
    return tuple(sum(agreed) / len(agreed) for _patient, agreed in drawn)


def _training_reference(version: str) -> Reference | None:
    registered = ModelVersion.objects.filter(version=version).first()
    reference = read_reference(registered.folder if registered is not None else model_directory())
    return reference if reference is not None and reference.model_version == version else None


# --- storing ----------------------------------------------------------------------------------------------------------


def _store(hospital: Hospital, *, findings: Findings, now: datetime.datetime) -> MonitoringRun | None:
    window, baseline = findings.window, findings.baseline_span
    try:
        with transaction.atomic():
            run = MonitoringRun.objects.create(
                hospital=hospital,
                day=timezone.localdate(now),
                ran_at=now,
                model_version=findings.model_version,
                window_from=window.start if window else None,
                window_until=window.end if window else None,
                answers=findings.answers,
                patients=findings.patients,
                baseline_from=baseline.start if baseline else None,
                baseline_until=baseline.end if baseline else None,
                training=[one.to_json() for one in findings.compared.get(Compared.TRAINING, ())],
                baseline=[one.to_json() for one in findings.compared.get(Compared.BASELINE, ())],
                note=findings.note,
            )
            if findings.model_version:
                _follow(run)
    except IntegrityError:
        logger.debug("Hospital %s has its run of today already.", hospital.pk)
        return None
    return run


def _follow(run: MonitoringRun) -> None:
    """Open, raise and close episodes by what the latest runs say. The caller holds the transaction of the run."""
    episodes = MonitoringEpisode.objects.filter(hospital=run.hospital, closed_at__isnull=True)
    for former in episodes.exclude(model_version=run.model_version):
        _close(former, MonitoringEpisode.Ending.REPLACED, at=run.ran_at)
    policy = Policy()
    # Runs that could not tell are passed over, so more are read than are looked at.
    depth = 4 * max(policy.looked_at, policy.quiet_runs)
    earlier = MonitoringRun.objects.filter(
        hospital=run.hospital, model_version=run.model_version, day__lte=run.day
    ).order_by("-day")
    runs: list[MonitoringRun] = list(earlier[:depth])[::-1]
    for compared in Compared.values:
        of_same = [one for one in runs if compared == Compared.TRAINING or one.baseline_from == run.baseline_from]
        levels = _levels(of_same, compared=compared)
        for family in MonitoringEpisode.Family.values:
            names = [
                signal.name
                for signal in SIGNALS
                if signal.family == family and (compared == Compared.BASELINE or signal.name in SPEAK_AGAINST_TRAINING)
            ]
            open_one = episodes.filter(model_version=run.model_version, compared=compared, family=family).first()
            _follow_family(
                run, compared=compared, family=family, levels={name: levels[name] for name in names}, episode=open_one
            )


def _levels(runs: Sequence[MonitoringRun], *, compared: str) -> defaultdict[str, list[Level]]:
    levels: defaultdict[str, list[Level]] = defaultdict(list)
    for run in runs:
        for comparison in run.comparisons(compared):
            levels[comparison.signal].append(comparison.level)
    return levels


def _follow_family(
    run: MonitoringRun,
    *,
    compared: str,
    family: str,
    levels: dict[str, list[Level]],
    episode: MonitoringEpisode | None,
) -> None:
    now = {name: level for name, history in levels.items() if (level := believed(history)) in ("warn", "alarm")}
    if not now:
        signals = episode.signals if episode is not None else []
        if episode is not None and all(is_quiet_again(levels.get(name, [])) for name in signals):
            _close(episode, MonitoringEpisode.Ending.QUIET, at=run.ran_at)
        return
    level = "alarm" if "alarm" in now.values() else "warn"
    if episode is not None:
        if episode.rise(level=level, signals=now, at=run.ran_at):
            _record(episode, message="A monitoring episode has risen to an alarm.")
        return
    opened = MonitoringEpisode.objects.create(
        hospital=run.hospital,
        model_version=run.model_version,
        compared=compared,
        family=family,
        level=level,
        signals=sorted(now),
        opened_at=run.ran_at,
        alarmed_at=run.ran_at if level == "alarm" else None,
    )
    _record(opened, message="A monitoring episode has opened.")


def _close(episode: MonitoringEpisode, ending: MonitoringEpisode.Ending, *, at: datetime.datetime) -> None:
    if episode.close(ending, at=at):
        _record(episode, message="A monitoring episode has closed.", ending=str(ending.value))


def _record(episode: MonitoringEpisode, *, message: str, **more: Any) -> None:
    events.record(
        "monitoring",
        message=message,
        level="warning" if episode.is_open else "info",
        hospital_id=episode.hospital_id,
        run_id=episode.pk,
        version=episode.model_version,
        compared=episode.compared,
        family=episode.family,
        severity=episode.level,
        signals=list(episode.signals),
        **more,
    )


def _administrators(hospital: Hospital) -> list[User]:
    administrators = User.objects.filter(role=Role.ADMINISTRATOR, is_active=True)
    of_hospital = administrators.filter(hospital=hospital)
    # A hospital without an administrator of its own is looked after by those of the whole installation.
    told = of_hospital if of_hospital.exists() else administrators.filter(is_superuser=True)
    return list(told.order_by("email"))
