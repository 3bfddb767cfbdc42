"""What patients upload by themselves: consent first, one slice, nobody else sees it; and deleting it again."""

import datetime
import uuid
from dataclasses import dataclass
from functools import partial

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from accounts.models import User
from studies.consent import wording_sha256
from studies.errors import OwnStudyError, QuotaError
from studies.intake import Upload, files_follow_the_transaction, prepare_slices, request_analysis, store_slice
from studies.models import Analysis, Consent, Handover, Image, Patient, Study
from studies.removal import delete_rows, files_of, remove_files, rows_below


@dataclass(frozen=True, kw_only=True)
class OwnUpload:
    """What a patient is told of an upload: the picture (None once erased), where its analysis and hand-over stand."""

    study: Study
    image: Image | None
    analysis: Analysis | None
    handover: Handover | None
    consent: Consent | None
    has_report: bool

    @classmethod
    def of(cls, study: Study) -> "OwnUpload":
        """Gather it. Doctors who took the study over may have added slices; this is about the patient's own."""
        image = Image.objects.filter(study=study, uploaded_by=study.created_by_id).first()
        return cls(
            study=study,
            image=image,
            analysis=image.latest_analysis if image is not None else None,
            handover=Handover.objects.newest_of(study),
            consent=Consent.objects.filter(study_id=study.pk).first(),
            has_report=image is not None and image.latest_success is not None and _has_or_gets_report(study),
        )

    def analyse_again(self, *, by: User) -> Analysis:
        """Queue another analysis after one that failed.

        Raises ``OwnStudyError`` where none has failed or a hospital has the study, ``InvalidTransitionError`` where
        somebody was faster.
        """
        has_failed = self.analysis is not None and self.analysis.state == Analysis.State.FAILED
        if self.image is None or not has_failed or not self.study.is_own:
            raise OwnStudyError(_("There is nothing to be tried again."))
        return request_analysis(self.image, by=by)


def _has_or_gets_report(study: Study) -> bool:
    # Once a hospital has the study, no automatic report is made any more; one that was read before stays.
    return study.is_own or hasattr(study, "automatic_report")


def submit_own_slice(
    patient: User,
    *,
    birth_date: datetime.date,
    study_date: datetime.date,
    upload: Upload,
    consent_version: str,
    question: str = "",
    study_id: uuid.UUID | None = None,
) -> Study:
    """Store one slice that a patient uploaded, with the consent, and queue its analysis. No doctor gets a grant.

    One transaction of its own, as in ``studies.intake.submit_study``. The checks of the file are those of doctors.

    Raises ``IntakeError`` with a sentence for a refused file, ``QuotaError`` where the person has uploaded enough for
    now, ``KeyError`` for a wording of the consent that never was.
    """
    sha256 = wording_sha256(consent_version)
    check_quota(patient)
    slices = prepare_slices([upload])
    with files_follow_the_transaction() as stored, transaction.atomic(durable=True):
        # Two uploads at once: the second waits here, and is counted after the first.
        User.objects.select_for_update(no_key=True).get(pk=patient.pk)
        check_quota(patient)
        record = _own_record(patient, birth_date=birth_date)
        study = Study.objects.create(
            id=study_id or uuid.uuid4(),
            patient=record,
            study_date=study_date,
            clinical_question=question,
            created_by=patient,
        )
        Consent.objects.create(user=patient, study_id=study.id, version=consent_version, wording_sha256=sha256)
        store_slice(study, doctor=patient, number=1, prepared=slices[0], stored=stored)
    return study


def check_quota(patient: User) -> None:
    """Raise ``QuotaError`` with a sentence where this person may not upload (now)."""
    if not settings.OWN_UPLOADS_PER_MONTH:
        raise QuotaError(_("This portal takes no uploads from patients. Please ask your hospital."))
    if (until := Consent.objects.next_upload_at(patient)) is not None:
        raise QuotaError(
            _(
                "You have uploaded %(count)d slices within 30 days, which is what this portal takes from one person. "
                "You can upload the next one from %(date)s on."
            )
            % {
                "count": settings.OWN_UPLOADS_PER_MONTH,
                "date": date_format(timezone.localtime(until), "j F Y, H:i"),
            }
        )


def delete_own_study(study: Study, *, by: User) -> None:
    """Delete an upload with everything that came of it, files included; the consent stays and says when it ended.

    Raises ``PermissionDenied`` for somebody else's, ``OwnStudyError`` while it is being analysed, while a hospital is
    asked to take it, and once a hospital has it: what a hospital has, the hospital erases.
    """
    with transaction.atomic():
        locked = Study.objects.select_for_update(of=("self",)).select_related("patient").get(pk=study.pk)
        if locked.created_by_id != by.pk:
            raise PermissionDenied(_("Only whoever uploaded it can delete it."))
        if not locked.is_own:
            raise OwnStudyError(_("A hospital has taken this over. Please ask the hospital to erase it."))
        if locked.handovers.filter(state=Handover.State.REQUESTED).exists():
            raise OwnStudyError(_("A hospital is asked to take this over. Please withdraw the request first."))
        if locked.state == Analysis.State.RUNNING:
            raise OwnStudyError(_("It is being analysed at this moment. Please try again in a minute."))
        below = list(rows_below(locked))
        names = sorted({name for row in below for name in files_of(row)})
        delete_rows(below)
        Consent.objects.filter(study_id=study.pk).update(withdrawn_at=timezone.now())
        transaction.on_commit(lambda: remove_files(names), robust=True)
        for path in settings.AFTER_ERASURE:
            transaction.on_commit(partial(import_string(path), by), robust=True)


def _own_record(patient: User, *, birth_date: datetime.date) -> Patient:
    """Return the person's record of their own; the date of birth is the one that was given last."""
    record, is_new = Patient.objects.get_or_create(
        user=patient,
        hospital=None,
        defaults={
            "birth_date": birth_date,
            "given_name": patient.given_name,
            "family_name": patient.family_name,
            "email": patient.email,
            "created_by": patient,
        },
    )
    if not is_new and record.birth_date != birth_date:
        record.birth_date = birth_date
        record.save(update_fields=["birth_date"])
    return record
