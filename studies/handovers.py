"""A doctor takes over what a patient handed to the hospital; from then on it is a study like any other there."""

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from accounts.models import User
from studies.errors import HandoverError, RecordNumberTakenError
from studies.models import Handover, Patient, Study
from studies.permissions import grant_patient, grant_study


def proposed_record_number(handover: Handover) -> str:
    """Return a number under which the hospital can keep somebody whom it does not know yet."""
    return f"SELF-{handover.pk.hex[:8].upper()}"


def record_at_hospital(handover: Handover) -> Patient | None:
    """Return the record that the hospital keeps for this patient's log-in already, or None."""
    return Patient.objects.filter(hospital_id=handover.hospital_id, user_id=handover.requested_by_id).first()


def take_over(handover: Handover, *, by: User, record_number: str) -> Study:
    """Move the study to the doctor's hospital and grant it to the doctor.

    It goes to the record that the patient's log-in has there already; where there is none, to a new one under
    ``record_number``. A record of somebody with the same name is never joined on a guess.

    Raises ``HandoverError`` for a doctor of another hospital and for whoever comes second,
    ``RecordNumberTakenError`` where the hospital has that number already; nothing is changed then.
    """
    if not by.is_approved_doctor or by.hospital_id != handover.hospital_id:
        raise HandoverError(_("Only a doctor of the hospital that was asked can take this over."))
    with transaction.atomic():
        handover.take(by=by)
        study = Study.objects.select_related("patient").get(pk=handover.study_id)
        record = record_at_hospital(handover) or _new_record(study.patient, by=by, record_number=record_number)
        study.patient = record
        study.save(update_fields=["patient"])
        grant_study(study, to=by, can_change=True)
    return study


def _new_record(own: Patient, *, by: User, record_number: str) -> Patient:
    try:
        with transaction.atomic():
            record = Patient.objects.create(
                hospital=by.hospital,
                record_number=record_number,
                given_name=own.given_name,
                family_name=own.family_name,
                birth_date=own.birth_date,
                email=own.email,
                user_id=own.user_id,
                created_by=by,
            )
    except IntegrityError as error:
        raise RecordNumberTakenError(
            _("Your hospital already has a patient with this record number. Please choose another one.")
        ) from error
    grant_patient(record, to=by, can_change=True)
    return record
