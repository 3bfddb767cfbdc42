"""Erasing a patient's record at the patient's wish, as far as the retention rule lets it go.

A study without a signed report goes as a whole. Of one with a signed report the pictures go, with everything that came
of them (answers, outlines, judgements, drafts, automatic reports); the signed reports with their PDFs stay as long as
``apply_retention`` would keep them, which then deletes them. A record of which no study stays goes as well. The log of
accesses stays.
"""

import datetime
from dataclasses import dataclass
from functools import partial

from django.conf import settings
from django.db import transaction
from django.db.models import Model
from django.http import HttpRequest
from django.utils import timezone
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from accounts.models import AccessEvent, User
from portal.retention import moments_of, years_after
from reports.models import BulkJob, Report, ShareLink
from studies.errors import ErasureError
from studies.models import Analysis, ErasureRequest, Patient, Study
from studies.removal import delete_rows, files_of, remove_files, rows_below

# Without a retention time nothing signed is ever due: "for ever", until somebody sets one.
FOR_EVER = datetime.date.max


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """What would become of one study: erased as a whole, or its signed reports kept until a day."""

    study: Study
    kept_until: datetime.date | None

    @property
    def is_kept(self) -> bool:
        """Whether signed reports of it stay."""
        return self.kept_until is not None

    @property
    def has_end(self) -> bool:
        """Whether the day is known on which they go too."""
        return self.kept_until is not None and self.kept_until != FOR_EVER


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an erasure of a record would do, study by study."""

    studies: tuple[StudyPlan, ...]

    @property
    def kept(self) -> tuple[StudyPlan, ...]:
        """The studies of which signed reports stay."""
        return tuple(one for one in self.studies if one.is_kept)

    @property
    def erased(self) -> tuple[StudyPlan, ...]:
        """The studies that go as a whole."""
        return tuple(one for one in self.studies if not one.is_kept)

    @property
    def kept_until(self) -> datetime.date | None:
        """The last day on which something is kept; None where nothing is, or without an end."""
        days = [one.kept_until for one in self.kept if one.kept_until is not None]
        return max(days) if days and FOR_EVER not in days else None


def plan_erasure(patient: Patient, *, now: datetime.datetime) -> Plan:
    """Return what erasing a record would do at ``now`` (aware); nothing is changed."""
    studies = patient.studies.order_by("study_date", "created_at")
    return Plan(studies=tuple(StudyPlan(study=study, kept_until=_kept_until(study, now=now)) for study in studies))


def erase_record(wish: ErasureRequest, *, by: User, reason: str, request: HttpRequest) -> Plan:
    """Erase the record of a request and note the decision; returns what was done.

    One transaction; files go after its commit. Raises ``ErasureError`` without a reason, for a request that is decided
    already, and while a slice is being analysed.
    """
    with transaction.atomic():
        records = Patient.objects.select_for_update(of=("self",))
        patient = records.filter(pk=wish.patient.pk).first() if wish.patient is not None else None
        if patient is None:
            raise ErasureError(_("This record is erased already."))
        if Analysis.objects.active().filter(image__study__patient=patient).exists():
            raise ErasureError(_("A slice of this record is being analysed. Please try again in a minute."))
        plan = plan_erasure(patient, now=timezone.now())
        wish.grant(
            by=by,
            reason=reason,
            studies_erased=len(plan.erased),
            studies_kept=len(plan.kept),
            kept_until=plan.kept_until,
        )
        names: set[str] = set()
        # Archives in which a doctor has put reports of this record lie around for a day otherwise.
        jobs = list(BulkJob.objects.filter(lines__study__patient=patient).values_list("id", flat=True))
        for one in plan.studies:
            note = "pictures erased at the patient's wish" if one.is_kept else "erased at the patient's wish"
            AccessEvent.record(request, action=AccessEvent.Action.DELETED, target=one.study, note=note)
            if one.is_kept:
                names |= _strip(one.study)
            else:
                names |= _delete(one.study)
        if not plan.kept:
            AccessEvent.record(
                request, action=AccessEvent.Action.DELETED, target=patient, note="erased at the patient's wish"
            )
            names |= _delete(patient)
        transaction.on_commit(lambda: remove_files(sorted(names)), robust=True)
        transaction.on_commit(lambda: BulkJob.objects.filter(id__in=jobs).remove_archives(), robust=True)
        for path in settings.AFTER_ERASURE:
            transaction.on_commit(partial(import_string(path), wish.requested_by), robust=True)
    return plan


def _kept_until(study: Study, *, now: datetime.datetime) -> datetime.date | None:
    """Return until when the signed reports of a study have to be kept, or None where there are none (any more)."""
    if not Report.objects.filter(study=study, state__in=Report.SIGNED_STATES).exists():
        return None
    if not settings.RETENTION_YEARS:
        return FOR_EVER
    newest = max(timezone.localtime(moment).date() for row in rows_below(study) for moment in moments_of(row))
    newest = max(newest, study.study_date)
    grown_up = years_after(study.patient.birth_date, years=settings.RETENTION_MINIMUM_AGE_YEARS)
    until = max(years_after(newest, years=settings.RETENTION_YEARS), grown_up)
    return until if until > timezone.localtime(now).date() else None


def _strip(study: Study) -> set[str]:
    """Delete a study's pictures and what came of them; its signed reports stay. Returns the files to remove."""
    going: list[Model] = [*study.images.all(), *study.first_impressions.all()]
    going += Report.objects.filter(study=study, state=Report.State.DRAFT)
    if (automatic := getattr(study, "automatic_report", None)) is not None:
        going.append(automatic)
    names = set().union(*(_delete(row) for row in going)) if going else set()
    ShareLink.objects.filter(report__study=study, revoked_at__isnull=True).update(revoked_at=timezone.now())
    study.refresh_triage()
    return names


def _delete(row: Model) -> set[str]:
    below = list(rows_below(row))
    names = {name for found in below for name in files_of(found)}
    delete_rows(below)
    return names
