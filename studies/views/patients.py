"""Patients: list, page, new, correct."""

import uuid

from django.contrib import messages
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from accounts.models import AccessEvent
from studies.access import changeable_patient, current_user, doctors_only, visible_patient
from studies.errors import RecordNumberTakenError
from studies.forms import PatientChangeForm, PatientFilterForm, PatientForm
from studies.intake import create_patient
from studies.models import Patient, Study
from studies.paging import page_of


@require_safe
@doctors_only
def patient_list(request: HttpRequest) -> HttpResponseBase:
    """List the patients whom the doctor may see, by name, searchable."""
    filters = PatientFilterForm(request.GET)
    search = filters.search
    found = Patient.objects.visible_to(current_user(request)).matching(search)
    page = page_of(found, order=["family_name", "given_name", "id"], after=request.GET.get("after", ""))
    return render(request, "studies/patient_list.html", {"page": page, "filters": filters, "is_filtered": bool(search)})


@require_http_methods(["GET", "HEAD", "POST"])
@doctors_only
def patient_create(request: HttpRequest) -> HttpResponseBase:
    """Make a record without a study."""
    doctor = current_user(request)
    form = PatientForm(request.POST if request.method == "POST" else None, doctor=doctor)
    if form.is_valid():
        try:
            patient = create_patient(form.new_patient, doctor=doctor)
        except RecordNumberTakenError as error:
            form.add_error("record_number", str(error))
        else:
            AccessEvent.record(request, action=AccessEvent.Action.CREATED, target=patient)
            messages.success(request, _("The record is made."))
            return redirect("studies:patient_detail", patient_id=patient.id)
    return render(request, "studies/patient_form.html", {"form": form}, status=400 if form.errors else 200)


@require_safe
@doctors_only
def patient_detail(request: HttpRequest, patient_id: uuid.UUID) -> HttpResponseBase:
    """Show a record and those of its studies that the doctor may see."""
    doctor = current_user(request)
    patient = visible_patient(doctor, patient_id)
    AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=patient)
    studies = Study.objects.visible_to(doctor).filter(patient=patient).with_slice_count()
    return render(
        request,
        "studies/patient_detail.html",
        {"patient": patient, "studies": studies, "can_change": patient.can_be_changed_by(doctor)},
    )


@require_http_methods(["GET", "HEAD", "POST"])
@doctors_only
def patient_edit(request: HttpRequest, patient_id: uuid.UUID) -> HttpResponseBase:
    """Correct a record."""
    doctor = current_user(request)
    patient = changeable_patient(doctor, patient_id)
    form = PatientChangeForm(request.POST if request.method == "POST" else None, instance=patient, doctor=doctor)
    if form.is_valid():
        form.save()
        AccessEvent.record(request, action=AccessEvent.Action.CHANGED, target=patient)
        messages.success(request, _("The record is changed."))
        return redirect("studies:patient_detail", patient_id=patient.id)
    shown = get_object_or_404(Patient, id=patient.id)
    return render(
        request, "studies/patient_form.html", {"form": form, "patient": shown}, status=400 if form.errors else 200
    )
