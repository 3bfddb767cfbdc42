"""What the hospital need not keep any longer is deleted: studies with all that belongs to them, then empty records.

A study is due when nothing that ever happened to it (taken in, analysed, reported, signed, released) lies within
the retention time, and the patient is old enough: pictures of children are kept until they are grown up. The log of
accesses stays; it tells of the deletion, and names nobody.
"""

import datetime
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import models, transaction

from accounts.models import AccessEvent
from studies.models import Patient, Study
from studies.removal import delete_rows, files_of, remove_files, rows_below


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How many studies and empty records were deleted (or would be), and how many stored files with them."""

    studies: int
    patients: int
    files: int


def years_before(moment: datetime.datetime, *, years: int) -> datetime.datetime:
    """Return the same day so many years earlier; 28 February for a leap day."""
    try:
        return moment.replace(year=moment.year - years)
    except ValueError:
        return moment.replace(year=moment.year - years, day=28)


def years_after(day: datetime.date, *, years: int) -> datetime.date:
    """Return the same day so many years later; 1 March for a leap day."""
    try:
        return day.replace(year=day.year + years)
    except ValueError:
        return datetime.date(day.year + years, 3, 1)


def apply_retention(*, now: datetime.datetime, is_dry_run: bool) -> Outcome:
    """Delete what is due at ``now`` (aware), one transaction a study or record; count only in a dry run.

    Nothing is due where ``IRA_RETENTION_YEARS`` is 0.
    """
    if not settings.RETENTION_YEARS:
        return Outcome(studies=0, patients=0, files=0)
    cutoff = years_before(now, years=settings.RETENTION_YEARS)
    born_before = years_before(now, years=settings.RETENTION_MINIMUM_AGE_YEARS).date()
    grown_up = Patient.objects.filter(birth_date__lte=born_before)
    studies = patients = files = 0
    candidates = Study.objects.filter(patient__in=grown_up, created_at__lt=cutoff, study_date__lt=cutoff.date())
    going: set[Any] = set()
    for study in candidates.order_by("created_at").iterator(chunk_size=100):
        if (count := _delete(study, cutoff=cutoff, is_dry_run=is_dry_run)) is not None:
            studies, files = studies + 1, files + count
            going.add(study.pk)
    staying = Study.objects.exclude(pk__in=going) if is_dry_run else Study.objects.all()
    empty = grown_up.filter(created_at__lt=cutoff).exclude(models.Exists(staying.filter(patient=models.OuterRef("pk"))))
    for patient in empty.iterator(chunk_size=100):
        if _delete(patient, cutoff=cutoff, is_dry_run=is_dry_run) is not None:
            patients += 1
    return Outcome(studies=studies, patients=patients, files=files)


def _delete(row: models.Model, *, cutoff: datetime.datetime, is_dry_run: bool) -> int | None:
    """Delete a row with all that hangs on it; return how many files went along, or None for one that is not due."""
    with transaction.atomic():
        if not type(row)._base_manager.select_for_update().filter(pk=row.pk).exists():
            return None
        below = list(rows_below(row))
        if any(happened_since(found, cutoff) for found in below):
            return None
        names = sorted({name for found in below for name in files_of(found)})
        if is_dry_run:
            return len(names)
        AccessEvent.note_of(action=AccessEvent.Action.DELETED, target=row, actor=None, note="retention time over")
        delete_rows(below)
        transaction.on_commit(lambda: remove_files(names), robust=True)
        return len(names)


def moments_of(row: models.Model) -> list[datetime.datetime]:
    """Return when anything happened to a row."""
    fields = (field for field in row._meta.concrete_fields if isinstance(field, models.DateTimeField))
    return [moment for moment in (getattr(row, field.name) for field in fields) if moment is not None]


def happened_since(row: models.Model, cutoff: datetime.datetime) -> bool:
    """Return whether anything happened to a row at or after that moment."""
    return any(moment >= cutoff for moment in moments_of(row))
