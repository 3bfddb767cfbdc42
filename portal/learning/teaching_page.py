"""The patient's page about teaching the model: what it means, and the patient's own word for each record."""

import uuid

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts.models import AccessEvent
from studies.access import current_user, patients_only
from studies.models import Patient, Teaching


class TeachingForm(forms.ModelForm):
    """The patient's word."""

    class Meta:
        model = Patient
        fields = ["teaching"]
        widgets = {"teaching": forms.RadioSelect}
        labels = {"teaching": gettext_lazy("Pictures of me teach the model")}


@never_cache
@require_safe
@patients_only
def teaching(request: HttpRequest) -> HttpResponseBase:
    """Show each record that a hospital keeps of this patient, with the patient's word about teaching."""
    records = current_user(request).patient_records.at_hospitals()
    forms_ = [
        (record, TeachingForm(instance=record, auto_id=f"id-{record.pk}-%s"))
        for record in records.order_by("created_at")
    ]
    return render(request, "portal/teaching.html", {"forms": forms_})


@require_POST
@patients_only
def teaching_change(request: HttpRequest, patient_id: uuid.UUID) -> HttpResponseBase:
    """Store the patient's word for one record."""
    record = get_object_or_404(current_user(request).patient_records.at_hospitals(), id=patient_id)
    form = TeachingForm(request.POST, instance=record)
    if form.is_valid():
        form.save()
        AccessEvent.record(request, action=AccessEvent.Action.CHANGED, target=record)
        if record.teaching == Teaching.REFUSED:
            messages.success(request, _("Noted: from the next export on, no picture of this record teaches the model."))
        else:
            messages.success(request, _("Your decision is noted."))
    else:
        messages.warning(request, _("Please choose one of the three answers."))
    return redirect("teaching")
