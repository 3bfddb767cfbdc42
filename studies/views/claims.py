"""A patient claims the record that a hospital keeps about them."""

import logging
import uuid
from http import HTTPStatus

from allauth.account.adapter import get_adapter
from allauth.core.context import request_context
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from accounts.models import AccessEvent
from studies import claims
from studies.access import changeable_patient, current_user, doctors_only, patients_only
from studies.errors import ClaimLockedError, InvitationError
from studies.forms import ClaimForm
from studies.models import Patient, RecordInvitation

logger = logging.getLogger(__name__)


@require_http_methods(["GET", "HEAD", "POST"])
@patients_only
def claim_record(request: HttpRequest) -> HttpResponseBase:
    """Show the form; tie the record to the person if everything matches. Wrong guesses all get the same sentence."""
    user = current_user(request)
    form = ClaimForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            patient = claims.claim_record(user, **form.cleaned_data)
        except ClaimLockedError as error:
            form.add_error(None, str(error))
        else:
            if patient is not None:
                AccessEvent.record(request, action=AccessEvent.Action.CLAIMED, target=patient)
                messages.success(
                    request,
                    _("This is your record at %(hospital)s. Reports that the hospital releases now reach you here.")
                    % {"hospital": patient.hospital},
                )
                return redirect("home")
            form.add_error(None, claims.NO_SUCH_RECORD)
    records = user.patient_records.at_hospitals()
    return render(
        request,
        "studies/claim_record.html",
        {"form": form, "records": records},
        status=400 if form.is_bound and not form.is_valid() else 200,
    )


@login_not_required
@require_http_methods(["GET", "HEAD", "POST"])
def claim_invitation(request: HttpRequest, token: str) -> HttpResponseBase:
    """Show an invitation to whoever holds its link; tie its record to a patient who also knows number and date."""
    if request.user.is_authenticated and not current_user(request).is_patient:
        raise Http404
    invitation = claims.open_invitation(token)
    if invitation is None:
        return render(request, "studies/claim_invitation.html", {}, status=HTTPStatus.GONE)
    if not request.user.is_authenticated:
        return render(request, "studies/claim_invitation.html", {"invitation": invitation})
    user = current_user(request)
    form = ClaimForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            patient = claims.claim_with_invitation(user, token=token, **form.cleaned_data)
        except ClaimLockedError as error:
            form.add_error(None, str(error))
        except InvitationError:
            return render(request, "studies/claim_invitation.html", {}, status=HTTPStatus.GONE)
        else:
            if patient is not None:
                AccessEvent.record(request, action=AccessEvent.Action.CLAIMED, target=patient)
                messages.success(
                    request,
                    _("This is your record at %(hospital)s. Reports that the hospital releases now reach you here.")
                    % {"hospital": patient.hospital},
                )
                return redirect("home")
            form.add_error(None, claims.NOT_THAT_INVITED)
    return render(
        request,
        "studies/claim_invitation.html",
        {"form": form, "invitation": invitation},
        status=400 if form.is_bound and not form.is_valid() else 200,
    )


@require_POST
@doctors_only
def patient_invite(request: HttpRequest, patient_id: uuid.UUID) -> HttpResponseBase:
    """Mail the patient an invitation to claim the record; an older one stops working."""
    patient = changeable_patient(current_user(request), patient_id)
    try:
        invitation = mail_invitation(request, patient)
    except InvitationError as error:
        messages.warning(request, str(error))
        return redirect("studies:patient_detail", patient_id=patient.id)
    messages.success(
        request, _("The invitation was mailed to %(email)s. It works once, for 14 days.") % {"email": invitation.email}
    )
    return redirect("studies:patient_detail", patient_id=patient.id)


def mail_invitation(request: HttpRequest, patient: Patient) -> RecordInvitation:
    """Mail the patient an invitation in place of an older one, and note it. Raises ``InvitationError``."""
    invitation, token = claims.invite_patient(patient, by=current_user(request))
    url = request.build_absolute_uri(reverse("studies:claim_invitation", kwargs={"token": token}))
    with request_context(request):
        context = {"patient": patient, "invitation": invitation, "url": url}
        try:
            get_adapter(request).send_mail("studies/email/invitation", invitation.email, context)
        except OSError as error:
            logger.warning("Invitation %s could not be mailed.", invitation.pk, exc_info=True)
            raise InvitationError(
                _("The mail server did not take the invitation, and an older one no longer works. Please try again.")
            ) from error
    AccessEvent.record(request, action=AccessEvent.Action.CHANGED, target=patient)
    return invitation
