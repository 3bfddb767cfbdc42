"""Break-glass: a doctor opens a record of the own hospital without a grant, and everybody whom it concerns is told.

What is written is an ordinary grant with an end (``studies.permissions.grant_in_emergency``), so that every page asks
what it always asks.
"""

import datetime
import logging
import smtplib
import uuid
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Final

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.language import speaking_to
from accounts.models import AccessEvent, Role, User
from studies.models import Patient, PatientUserObjectPermission, StudyUserObjectPermission
from studies.permissions import grant_in_emergency

logger = logging.getLogger(__name__)
# A record of another hospital is none: one sentence for both.
NO_SUCH_RECORD: Final = gettext_lazy(
    "Your hospital keeps no record with this number and date of birth. Please check both."
)


@dataclass(frozen=True, kw_only=True)
class EmergencyOpening:
    """The record that was asked for; ``until`` is None where the doctor sees all of it without any emergency."""

    patient: Patient
    until: datetime.datetime | None


def open_in_emergency(
    request: HttpRequest, *, doctor: User, record_number: str, birth_date: datetime.date, reason: str
) -> EmergencyOpening | None:
    """Let the doctor read a record of the own hospital for ``settings.EMERGENCY_ACCESS_MINUTES``.

    The access is on record with its reason; the patient and the hospital's administrators are mailed once it is.
    Returns None where the hospital keeps no such record, which is on record too.
    """
    found = Patient.objects.filter(
        hospital=doctor.hospital_id, record_number__iexact=record_number.strip(), birth_date=birth_date
    )
    patient = found.select_related("hospital", "user").first()
    if patient is None:
        AccessEvent.record(
            request, action=AccessEvent.Action.LOGIN_FAILED, target=doctor, note="emergency access: no such record"
        )
        return None
    until = timezone.now() + datetime.timedelta(minutes=settings.EMERGENCY_ACCESS_MINUTES)
    with transaction.atomic():
        if not grant_in_emergency(patient, to=doctor, until=until):
            return EmergencyOpening(patient=patient, until=None)
        AccessEvent.record(request, action=AccessEvent.Action.OPENED_IN_EMERGENCY, target=patient, note=reason)
    _tell_patient(request, patient)
    _tell_administrators(request, doctor)
    return EmergencyOpening(patient=patient, until=until)


def emergency_until(doctor: User, *, patient_id: uuid.UUID) -> datetime.datetime | None:
    """Return until when this doctor sees something of the record because of an emergency; None if none lasts."""
    now = timezone.now()
    of_record = PatientUserObjectPermission.objects.filter(content_object=patient_id)
    of_studies = StudyUserObjectPermission.objects.filter(content_object__patient=patient_id)
    lent = [
        grants.filter(user=doctor, expires_at__gt=now).order_by().values_list("expires_at")
        for grants in (of_record, of_studies)
    ]
    return max((until for (until,) in lent[0].union(lent[1]) if until is not None), default=None)


def _tell_patient(request: HttpRequest, patient: Patient) -> None:
    email = patient.user.email if patient.user is not None else patient.email
    assert patient.hospital is not None  # noqa: S101 - narrows the type: the record was found by its hospital
    if email:
        context = {
            "name": patient.given_name,
            "hospital": patient.hospital.name,
            "link": request.build_absolute_uri(reverse("access_history")) if patient.user is not None else "",
        }
        with speaking_to(patient.user) if patient.user is not None else nullcontext():
            _mail(
                [email], subject=_("Your record was opened"), template="studies/email/emergency_patient.txt", **context
            )


def _tell_administrators(request: HttpRequest, doctor: User) -> None:
    administrators = User.objects.filter(role=Role.ADMINISTRATOR, is_active=True)
    of_hospital = administrators.filter(hospital=doctor.hospital_id)
    # A hospital without an administrator of its own is looked after by those of the whole installation.
    told = of_hospital if of_hospital.exists() else administrators.filter(is_superuser=True)
    link = request.build_absolute_uri(reverse("admin:accounts_emergencyaccess_changelist"))
    emails = list(told.order_by("email").values_list("email", flat=True))
    _mail(
        emails,
        subject=_("A record was opened in an emergency"),
        template="studies/email/emergency_administrator.txt",
        doctor=doctor.get_full_name(),
        at=timezone.localtime(),
        link=link,
    )


def _mail(recipients: Iterable[str], *, subject: str, template: str, **context: object) -> None:
    message = render_to_string(template, context)
    for recipient in recipients:
        try:
            send_mail(
                subject=subject, message=message, from_email=settings.DEFAULT_FROM_EMAIL, recipient_list=[recipient]
            )
        except (smtplib.SMTPException, OSError):
            # Nobody waits for the post in an emergency. The event is on record and stands in the administration.
            logger.exception("The notice of an emergency access could not be mailed.")
