"""The pages of an erasure: the patient asks and reads the outcome, an administrator of the hospital decides."""

import uuid
from http import HTTPStatus
from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import User
from accounts.notices import send_notice
from portal.erasure import erase_record, plan_erasure
from studies.access import current_user, patients_only
from studies.errors import ErasureError
from studies.models import ErasureRequest, Patient
from studies.paging import page_of


class WishForm(forms.Form):
    """What a patient wants to tell the hospital with the request."""

    message = forms.CharField(
        label=gettext_lazy("Message to the hospital"),
        required=False,
        max_length=1000,
        widget=forms.Textarea(attrs={"rows": 3, "maxlength": 1000}),
    )


class DecisionForm(forms.Form):
    """What an administrator decides, and why."""

    decision = forms.ChoiceField(
        label=gettext_lazy("Decision"),
        choices=[("erase", gettext_lazy("Erase, as told above")), ("refuse", gettext_lazy("Refuse: erase nothing"))],
        widget=forms.RadioSelect,
        error_messages={"required": gettext_lazy("Please choose what is to be done.")},
    )
    reason = forms.CharField(
        label=gettext_lazy("Reason, for the patient"),
        max_length=1000,
        help_text=gettext_lazy("The patient reads it in the portal. Please write nothing medical."),
        widget=forms.Textarea(attrs={"rows": 4, "maxlength": 1000}),
        error_messages={"required": gettext_lazy("Please say why; the patient reads the reason.")},
    )


@never_cache
@require_safe
@patients_only
def erasure_mine(request: HttpRequest) -> HttpResponseBase:
    """Show a patient's records at hospitals, what was asked, and what the hospitals decided."""
    user = current_user(request)
    wishes = list(ErasureRequest.objects.made_by(user).select_related("hospital"))
    waiting = {wish.patient_id for wish in wishes if wish.is_waiting}
    records = user.patient_records.at_hospitals().order_by("created_at")
    context = {
        "records": [record for record in records if record.pk not in waiting],
        "wishes": wishes,
        "form": WishForm(),
    }
    return render(request, "portal/erasure_mine.html", context)


@require_POST
@patients_only
def erasure_ask(request: HttpRequest, patient_id: uuid.UUID) -> HttpResponseBase:
    """Ask the hospital of one's own record to erase it."""
    user = current_user(request)
    record = get_object_or_404(user.patient_records.at_hospitals(), id=patient_id)
    form = WishForm(request.POST)
    if not form.is_valid():
        messages.warning(request, _("The message is too long. Please shorten it to 1,000 letters."))
        return redirect("erasure_mine")
    try:
        ErasureRequest.ask(record, by=user, message=form.cleaned_data["message"])
    except ErasureError as error:
        messages.warning(request, str(error))
    else:
        messages.success(request, _("The hospital is asked. We tell you by e-mail when it has decided."))
    return redirect("erasure_mine")


@require_POST
@patients_only
def erasure_withdraw(request: HttpRequest, wish_id: uuid.UUID) -> HttpResponseBase:
    """Take back a request on which nobody has decided."""
    user = current_user(request)
    wish = get_object_or_404(ErasureRequest.objects.made_by(user), id=wish_id)
    try:
        wish.withdraw(by=user)
    except ErasureError as error:
        messages.warning(request, str(error))
    else:
        messages.success(request, _("The request is withdrawn. Nothing was erased."))
    return redirect("erasure_mine")


@never_cache
@require_safe
def erasure_list(request: HttpRequest) -> HttpResponseBase:
    """List the requests to an administrator's hospital: first those that wait, the newest first."""
    wishes = ErasureRequest.objects.decidable_by(_administrator(request)).select_related("hospital", "patient")
    waiting = wishes.filter(state=ErasureRequest.State.REQUESTED).order_by("requested_at", "id")
    page = page_of(
        wishes.exclude(state=ErasureRequest.State.REQUESTED),
        order=("-requested_at", "-id"),
        after=request.GET.get("after", ""),
    )
    return render(request, "portal/erasure_list.html", {"waiting": waiting, "page": page})


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def erasure_decide(request: HttpRequest, wish_id: uuid.UUID) -> HttpResponseBase:
    """Show what an erasure would do under the retention rule; do it, or refuse it, with a reason."""
    administrator = _administrator(request)
    wishes = ErasureRequest.objects.decidable_by(administrator).select_related("hospital", "patient", "requested_by")
    wish = get_object_or_404(wishes, id=wish_id)
    form = DecisionForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        reason = form.cleaned_data["reason"]
        try:
            if form.cleaned_data["decision"] == "erase":
                erase_record(wish, by=administrator, reason=reason, request=request)
            else:
                wish.refuse(by=administrator, reason=reason)
        except ErasureError as error:
            messages.warning(request, str(error))
        else:
            url = request.build_absolute_uri(reverse("erasure_mine"))
            send_notice(request, template="studies/email/own_news", to=wish.requested_by, url=url)
            messages.success(request, _("It is done, and the patient is told."))
        return redirect("erasure_decide", wish.pk)
    record: Patient | None = wish.patient
    context: dict[str, Any] = {
        "wish": wish,
        "record": record,
        "plan": plan_erasure(record, now=timezone.now()) if record is not None and wish.is_waiting else None,
        "form": form,
    }
    status = HTTPStatus.BAD_REQUEST if form.errors else HTTPStatus.OK
    return render(request, "portal/erasure_decide.html", context, status=status)


def _administrator(request: HttpRequest) -> User:
    """Return the administrator who asks; for anybody else the page does not exist."""
    user = current_user(request)
    if not (user.is_administrator and user.is_staff):
        raise Http404
    return user
