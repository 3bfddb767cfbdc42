"""Whether a page shows a record that its reader sees because of an emergency only."""

from datetime import datetime
from typing import Any

from django import template

from accounts.models import User
from studies.emergency import emergency_until
from studies.models import Patient, Study

register = template.Library()


@register.simple_tag(takes_context=True)
def emergency_end(context: template.Context) -> datetime | None:
    """Return until when the emergency lasts in which this page is read; None on every other page.

    Looks for what pages about a record have in their context: ``patient``, ``study``, or a ``report`` with its study.
    """
    user = getattr(context.get("request"), "user", None)
    if not isinstance(user, User) or not user.is_approved_doctor:
        return None
    patient_id = _record_of(context)
    return emergency_until(user, patient_id=patient_id) if patient_id is not None else None


def _record_of(context: template.Context) -> Any:
    study = context.get("study") or getattr(context.get("report"), "study", None)
    if isinstance(study, Study):
        return study.patient_id
    patient = context.get("patient")
    return patient.pk if isinstance(patient, Patient) else None
