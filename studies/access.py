"""Which role a page is for, and what pages and API find for whoever asks.

A page of another role does not exist: 404, as for everything that one may not see.

What the software said is another matter: a doctor who may see the study knows that there is an answer, so asking too
early is 403.
"""

import uuid
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _

from accounts.models import User
from studies.models import Handover, Patient, Study

Arguments = ParamSpec("Arguments")
View = Callable[Concatenate[HttpRequest, Arguments], HttpResponseBase]


def current_user(request: HttpRequest) -> User:
    """Return who asks. Every view of this app stands behind the log-in wall, so it is never anonymous."""
    assert isinstance(request.user, User)  # noqa: S101 - narrows the type behind the log-in wall
    return request.user


def doctors_only(view: View[Arguments]) -> View[Arguments]:
    """Answer 404 to anybody who is not an approved doctor."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Arguments.args, **kwargs: Arguments.kwargs) -> HttpResponseBase:
        if not current_user(request).is_approved_doctor:
            raise Http404
        return view(request, *args, **kwargs)

    return checked


def patients_only(view: View[Arguments]) -> View[Arguments]:
    """Answer 404 to anybody who is not here as a patient."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Arguments.args, **kwargs: Arguments.kwargs) -> HttpResponseBase:
        if not current_user(request).is_patient:
            raise Http404
        return view(request, *args, **kwargs)

    return checked


def visible_patient(doctor: User, patient_id: uuid.UUID) -> Patient:
    """Return a record; what this doctor may not see does not exist."""
    return get_object_or_404(Patient.objects.visible_to(doctor).select_related("user", "hospital"), id=patient_id)


def changeable_patient(doctor: User, patient_id: uuid.UUID) -> Patient:
    """Return a record that the doctor may correct. Raises ``PermissionDenied`` for one that may only be read."""
    patient = visible_patient(doctor, patient_id)
    if not patient.can_be_changed_by(doctor):
        raise PermissionDenied(_("You may read this record, but not change it."))
    return patient


def own_study(patient: User, study_id: uuid.UUID) -> Study:
    """Return an upload of this patient's; another one does not exist."""
    return get_object_or_404(Study.objects.uploaded_by(patient).select_related("patient__hospital"), id=study_id)


def seen_handover(doctor: User, handover_id: uuid.UUID) -> Handover:
    """Return what a patient has handed to the doctor's hospital; another one does not exist."""
    seen = Handover.objects.seen_by(doctor).select_related("study__patient", "hospital", "decided_by")
    return get_object_or_404(seen, id=handover_id)


def require_revealed(study: Study, *, to: User) -> None:
    """Raise ``PermissionDenied`` with a sentence while what the software said is hidden from this doctor."""
    if not study.reveals_ai_to(to):
        raise PermissionDenied(
            _("Please note your first impression of this study first. What the software says is shown after that.")
        )
