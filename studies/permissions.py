"""Who may do what with patients and studies. Grants are written here only, and writing one twice changes nothing."""

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Model, QuerySet
from django.utils.translation import gettext as _

from accounts.models import User
from studies.errors import GrantError
from studies.models import LimitedGrantMixin, Patient, PatientUserObjectPermission, Study, StudyUserObjectPermission


def grant_patient(patient: Patient, *, to: User, can_change: bool) -> None:
    """Let a doctor of the patient's hospital see the record, and correct it where ``can_change``.

    Raises ``GrantError`` for anybody else. A grant that exists stays, also a stronger one; one of an emergency loses
    its end.
    """
    _require_colleague(to, hospital_id=patient.hospital_id)
    for codename in ("view_patient", "change_patient") if can_change else ("view_patient",):
        _give(PatientUserObjectPermission, codename, to=to, target=patient)


def grant_study(study: Study, *, to: User, can_change: bool) -> None:
    """Let a doctor of the hospital see the study and its patient, and work on the study where ``can_change``.

    Raises ``GrantError`` for anybody else. A grant that exists stays, also a stronger one. Seeing a study includes
    seeing whose it is, so the patient's record becomes visible too, never changeable.
    """
    with transaction.atomic():
        grant_patient(study.patient, to=to, can_change=False)
        for codename in ("view_study", "change_study") if can_change else ("view_study",):
            _give(StudyUserObjectPermission, codename, to=to, target=study)


def grant_in_emergency(patient: Patient, *, to: User, until: datetime) -> bool:
    """Let a doctor of the hospital see the record and all its studies until then, never change them.

    Returns False where the doctor sees all of it already without an end; True also for a further emergency, which
    moves the end. Raises ``GrantError`` for anybody else.
    """
    _require_colleague(to, hospital_id=patient.hospital_id)
    with transaction.atomic():
        given = [_lend(PatientUserObjectPermission, "view_patient", to=to, target=patient, until=until)]
        for study in patient.studies.all():
            given.append(_lend(StudyUserObjectPermission, "view_study", to=to, target=study, until=until))
    return any(given)


def _give(grants: type[LimitedGrantMixin], codename: str, *, to: User, target: Model) -> None:
    row = grants._default_manager.assign_perm(codename, to, target)  # type: ignore[attr-defined] # guardian's manager
    if row.expires_at is not None:
        row.expires_at = None
        row.save(update_fields=["expires_at"])


def _lend(grants: type[LimitedGrantMixin], codename: str, *, to: User, target: Model, until: datetime) -> bool:
    """Give a permission with an end; return False where the person holds it without one."""
    rows: QuerySet[Any] = grants._default_manager.all()
    held = rows.filter(user=to, permission__codename=codename, content_object=target)
    if held.filter(expires_at__isnull=True).exists():
        return False
    grants._default_manager.assign_perm(codename, to, target)  # type: ignore[attr-defined] # guardian's manager
    held.update(expires_at=until)
    return True


def _require_colleague(user: User, *, hospital_id: object) -> None:
    if not user.is_approved_doctor or user.hospital_id != hospital_id:
        raise GrantError(
            _(
                "Only an approved doctor of the patient's own hospital can be given access. Please choose a colleague "
                "from the list."
            )
        )
