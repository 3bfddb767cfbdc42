"""Who may do what with patients and studies. Grants are written here only, and writing one twice changes nothing."""

from django.db import transaction

from accounts.models import User
from studies.errors import GrantError
from studies.models import Patient, PatientUserObjectPermission, Study, StudyUserObjectPermission


def grant_patient(patient: Patient, *, to: User, can_change: bool) -> None:
    """Let a doctor of the patient's hospital see the record, and correct it where ``can_change``.

    Raises ``GrantError`` for anybody else. A grant that exists stays, also a stronger one.
    """
    _require_colleague(to, hospital_id=patient.hospital_id)
    for codename in ("view_patient", "change_patient") if can_change else ("view_patient",):
        PatientUserObjectPermission.objects.assign_perm(codename, to, patient)


def grant_study(study: Study, *, to: User, can_change: bool) -> None:
    """Let a doctor of the hospital see the study and its patient, and work on the study where ``can_change``.

    Raises ``GrantError`` for anybody else. A grant that exists stays, also a stronger one. Seeing a study includes
    seeing whose it is, so the patient's record becomes visible too, never changeable.
    """
    with transaction.atomic():
        grant_patient(study.patient, to=to, can_change=False)
        for codename in ("view_study", "change_study") if can_change else ("view_study",):
            StudyUserObjectPermission.objects.assign_perm(codename, to, study)


def _require_colleague(user: User, *, hospital_id: object) -> None:
    if not user.is_approved_doctor or user.hospital_id != hospital_id:
        raise GrantError(
            "Only an approved doctor of the patient's own hospital can be given access. Please choose a colleague "
            "from the list."
        )
