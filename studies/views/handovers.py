"""What patients have handed to a hospital: the list that its doctors share, taking one over, declining one."""

import uuid

from django.contrib import messages
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from accounts.models import AccessEvent
from accounts.notices import send_notice
from studies.access import current_user, doctors_only, seen_handover
from studies.errors import HandoverError, RecordNumberTakenError
from studies.handovers import proposed_record_number, record_at_hospital, take_over
from studies.models import Handover
from studies.own_forms import DeclineForm, TakeOverForm
from studies.paging import page_of


@never_cache
@require_safe
@doctors_only
def handover_list(request: HttpRequest) -> HttpResponseBase:
    """List what waits for a doctor of this hospital; no picture is shown before somebody has taken it over."""
    waiting = Handover.objects.waiting_for(current_user(request)).select_related("study__patient")
    page = page_of(waiting, order=("requested_at", "id"), after=request.GET.get("after", ""))
    return render(request, "studies/handover_list.html", {"page": page})


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@doctors_only
def handover_take(request: HttpRequest, handover_id: uuid.UUID) -> HttpResponseBase:
    """Show one request; take it over. Of two doctors the second is told who was faster."""
    doctor = current_user(request)
    handover = seen_handover(current_user(request), handover_id)
    record = record_at_hospital(handover)
    form = TakeOverForm(
        request.POST if request.method == "POST" else None,
        has_record=record is not None,
        initial={"record_number": proposed_record_number(handover)},
    )
    if not handover.is_waiting:
        messages.warning(request, handover.too_late_sentence(reader=doctor))
        return redirect("studies:handover_list")
    if form.is_valid():
        try:
            study = take_over(handover, by=doctor, record_number=form.cleaned_data.get("record_number", ""))
        except RecordNumberTakenError as error:
            form.add_error("record_number", str(error))
        except HandoverError as error:
            messages.warning(request, str(error))
            return redirect("studies:handover_list")
        else:
            AccessEvent.record(request, action=AccessEvent.Action.CLAIMED, target=study)
            tell_patient(request, handover)
            messages.success(request, _("You have taken this study over. The patient is told."))
            return redirect("studies:study_detail", study_id=study.id)
    AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=handover)
    context = {"handover": handover, "form": form, "decline_form": DeclineForm(), "record": record}
    return render(request, "studies/handover_take.html", context, status=400 if form.errors else 200)


@never_cache
@require_http_methods(["POST"])
@doctors_only
def handover_decline(request: HttpRequest, handover_id: uuid.UUID) -> HttpResponseBase:
    """Turn a request down with a reason that the patient reads."""
    handover = seen_handover(current_user(request), handover_id)
    form = DeclineForm(request.POST)
    if not form.is_valid():
        record = record_at_hospital(handover)
        take_form = TakeOverForm(
            has_record=record is not None, initial={"record_number": proposed_record_number(handover)}
        )
        context = {"handover": handover, "form": take_form, "decline_form": form, "record": record}
        return render(request, "studies/handover_take.html", context, status=400)
    try:
        handover.decline(by=current_user(request), reason=form.cleaned_data["reason"])
    except HandoverError as error:
        messages.warning(request, str(error))
    else:
        AccessEvent.record(request, action=AccessEvent.Action.CHANGED, target=handover)
        tell_patient(request, handover)
        messages.success(request, _("The request is declined. The patient is told and reads your reason."))
    return redirect("studies:handover_list")


def tell_patient(request: HttpRequest, handover: Handover) -> bool:
    """Mail that there is news, and nothing about what."""
    url = request.build_absolute_uri(reverse("studies:own_study", kwargs={"study_id": handover.study_id}))
    return send_notice(request, template="studies/email/own_news", to=handover.requested_by, url=url)
