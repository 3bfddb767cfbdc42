"""Bulk imports: list, new, files that follow one by one, page with its self-updating part, whose files are these."""

import uuid
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import patch_cache_control
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import AccessEvent, User
from studies import uploads
from studies.access import current_user, doctors_only
from studies.errors import IntakeError, InvalidTransitionError, RecordNumberTakenError
from studies.imports.forms import GroupForm, ImportForm
from studies.imports.progress import progress_of
from studies.imports.receiving import open_import, receive_files
from studies.intake import NewPatient, create_patient
from studies.models import Import, ImportFile, ImportGroup
from studies.paging import page_of
from studies.uploads import takes_many_files

# What the lines may be narrowed to, and which lines these are.
SHOWN = {
    "": Q(),
    "accepted": Q(state=ImportFile.State.ACCEPTED),
    "warned": ~Q(warning=""),
    "duplicate": Q(state=ImportFile.State.DUPLICATE),
    "rejected": Q(state=ImportFile.State.REJECTED),
    "asked": Q(state=ImportFile.State.ASKED),
}
LINES_A_PAGE = 100


@require_safe
@doctors_only
def import_list(request: HttpRequest) -> HttpResponseBase:
    """List the doctor's imports, newest first."""
    State = ImportFile.State
    imports = Import.objects.visible_to(current_user(request)).annotate(
        file_count=Count("files", filter=~Q(files__state=State.OPENED)),
        accepted_count=Count("files", filter=Q(files__state=State.ACCEPTED)),
        rejected_count=Count("files", filter=Q(files__state=State.REJECTED)),
        asked_count=Count("files", filter=Q(files__state=State.ASKED)),
    )
    page = page_of(imports, order=["-created_at", "-id"], after=request.GET.get("after", ""))
    return render(request, "studies/import_list.html", {"page": page})


@takes_many_files
@require_http_methods(["GET", "HEAD", "POST"])
@doctors_only
def import_create(request: HttpRequest) -> HttpResponseBase:
    """Begin an import. With JavaScript its files follow one by one; without, they come along and it starts at once."""
    doctor = current_user(request)
    if "find_patient" in request.POST:
        # The search for a patient without JavaScript: the same form, with all that was typed and nothing judged yet.
        form = ImportForm(doctor=doctor, patient_id=request.POST.get("patient", ""), initial=request.POST.dict())
    elif request.method == "POST":
        refusal = uploads.refusal(request)
        form = ImportForm(request.POST, request.FILES, doctor=doctor, refusal=refusal)
        if form.is_valid():
            try:
                batch = _begin(request, form=form, doctor=doctor)
            except RecordNumberTakenError as error:
                form.add_error("record_number", str(error))
            except IntakeError as error:
                form.add_error("loose_files", str(error))
            else:
                page = reverse("studies:import_detail", kwargs={"import_id": batch.id})
                if form.cleaned_data["sends_files_apart"]:
                    return JsonResponse(
                        {
                            "files": reverse("studies:import_files", kwargs={"import_id": batch.id}),
                            "start": reverse("studies:import_start", kwargs={"import_id": batch.id}),
                            "page": page,
                        }
                    )
                return redirect(page)
    else:
        form = ImportForm(
            doctor=doctor, patient_id=request.GET.get("patient", ""), initial={"study_date": timezone.localdate()}
        )
    context = {"form": form, "max_files": settings.IMPORT_MAX_FILES}
    return render(request, "studies/import_create.html", context, status=400 if form.errors else 200)


@takes_many_files
@require_POST
@doctors_only
def import_files(request: HttpRequest, import_id: uuid.UUID) -> HttpResponseBase:
    """Keep some files of an import that is being sent; the same request may come twice."""
    batch = _visible_import(current_user(request), import_id)
    if refusal := uploads.refusal(request):
        return JsonResponse({"error": refusal}, status=413)
    files = request.FILES.getlist("files")
    paths = request.POST.getlist("path")
    if not request.POST.get("first", "").isdecimal() or len(paths) != len(files):
        return JsonResponse({"error": _("The request is not complete. Please send the files again.")}, status=400)
    try:
        receive_files(batch, files=files, paths=paths, first=int(request.POST["first"]))
    except IntakeError as error:
        return JsonResponse({"error": str(error)}, status=409)
    return JsonResponse({"received": batch.files.count()})


@require_POST
@doctors_only
def import_start(request: HttpRequest, import_id: uuid.UUID) -> HttpResponseBase:
    """Close the upload and begin with what has arrived."""
    batch = _visible_import(current_user(request), import_id)
    try:
        if not batch.files.exists():
            raise InvalidTransitionError(
                _("No file has arrived yet. Please send the files again, or discard the import.")
            )
        batch.start()
    except InvalidTransitionError as error:
        messages.warning(request, str(error))
    return redirect("studies:import_detail", import_id=batch.id)


@require_POST
@doctors_only
def import_discard(request: HttpRequest, import_id: uuid.UUID) -> HttpResponseBase:
    """Throw an upload away that was not finished."""
    batch = _visible_import(current_user(request), import_id)
    try:
        batch.abandon()
    except InvalidTransitionError as error:
        messages.warning(request, str(error))
        return redirect("studies:import_detail", import_id=batch.id)
    AccessEvent.record(request, action=AccessEvent.Action.CHANGED, target=batch)
    messages.success(request, _("The upload is discarded; nothing of it is kept."))
    return redirect("studies:import_list")


@require_safe
@doctors_only
def import_detail(request: HttpRequest, import_id: uuid.UUID) -> HttpResponseBase:
    """Show how far an import is, and a line for each of its files."""
    batch = _visible_import(current_user(request), import_id)
    AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=batch)
    return render(request, "studies/import_detail.html", _page_of_import(request, batch=batch))


@require_safe
@doctors_only
def import_status(request: HttpRequest, import_id: uuid.UUID) -> HttpResponseBase:
    """Answer a page that asks for news: the changed part, or 204 while nothing has changed since ``seen``."""
    batch = _visible_import(current_user(request), import_id)
    response: HttpResponseBase
    if request.GET.get("seen") == f"{batch.state}-{progress_of(batch).key}":
        response = HttpResponse(status=204)
    else:
        AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=batch)
        context = _page_of_import(request, batch=batch)
        response = render(request, "studies/_import.html", context | {"is_update": True})
    patch_cache_control(response, private=True, no_store=True)
    return response


@require_http_methods(["GET", "HEAD", "POST"])
@doctors_only
def import_answer(request: HttpRequest, group_id: uuid.UUID) -> HttpResponseBase:
    """Take the doctor's answer whose the files of one examination are, or that they are to be left out."""
    doctor = current_user(request)
    group = get_object_or_404(
        ImportGroup.objects.filter(batch__in=Import.objects.visible_to(doctor)).select_related("batch"), id=group_id
    )
    is_search = "find_patient" in request.POST
    form = (
        GroupForm(doctor=doctor, group=group, patient_id=request.POST.get("patient", ""), initial=request.POST.dict())
        if is_search
        else GroupForm(request.POST if request.method == "POST" else None, doctor=doctor, group=group)
    )
    try:
        if request.method == "POST" and "leave_out" in request.POST:
            group.leave_out()
            messages.success(request, _("The files are left out; nothing of them is kept."))
            return _back_to(group)
        if form.is_valid():
            chosen = form.chosen_patient
            if isinstance(chosen, NewPatient):
                chosen = create_patient(chosen, doctor=doctor)
                AccessEvent.record(request, action=AccessEvent.Action.CREATED, target=chosen)
            group.assign(chosen)
            return _back_to(group)
    except RecordNumberTakenError as error:
        form.add_error("record_number", str(error))
    except InvalidTransitionError as error:
        messages.warning(request, str(error))
        return _back_to(group)
    if not group.is_open:
        return _back_to(group)
    AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=group)
    files = group.files.order_by("rank")
    return render(
        request,
        "studies/import_answer.html",
        {"form": form, "group": group, "batch": group.batch, "files": files[:5], "count": files.count()},
        status=400 if form.errors else 200,
    )


def _begin(request: HttpRequest, *, form: ImportForm, doctor: User) -> Import:
    import_id = form.import_id
    begun = Import.objects.filter(id=import_id).first()
    if begun is not None and begun.created_by_id != doctor.id:
        raise Http404
    batch = open_import(
        doctor,
        import_id=import_id,
        patient=None if begun else form.patient_if_any,
        study_date=form.cleaned_data["study_date"],
        clinical_question=form.cleaned_data["clinical_question"],
        announced_files=form.cleaned_data["announced_files"] or len(form.uploads),
    )
    if begun is None:
        AccessEvent.record(request, action=AccessEvent.Action.CREATED, target=batch)
    if not form.cleaned_data["sends_files_apart"] and batch.is_receiving:
        receive_files(batch, files=form.uploads, paths=[file.name or "" for file in form.uploads], first=0)
        batch.start()
    return batch


def _back_to(group: ImportGroup) -> HttpResponse:
    return redirect("studies:import_detail", import_id=group.batch_id)


def _visible_import(doctor: User, import_id: uuid.UUID) -> Import:
    return get_object_or_404(Import.objects.visible_to(doctor).select_related("patient"), id=import_id)


def _page_of_import(request: HttpRequest, *, batch: Import) -> dict[str, Any]:
    shown = request.GET.get("show", "")
    shown = shown if shown in SHOWN else ""
    progress = progress_of(batch)
    lines = batch.files.filter(SHOWN[shown]).select_related("image__study", "duplicate_of__study")
    asked = batch.groups.filter(files__state=ImportFile.State.ASKED).annotate(file_count=Count("files"))
    groups = (
        batch.groups.filter(study__isnull=False)
        .select_related("study", "patient")
        .annotate(slice_count=Count("files", filter=Q(files__state=ImportFile.State.ACCEPTED)))
    )
    return {
        "batch": batch,
        "progress": progress,
        "seen": f"{batch.state}-{progress.key}",
        "page": page_of(lines, order=["position"], after=request.GET.get("after", ""), size=LINES_A_PAGE),
        "after": request.GET.get("after", ""),
        "shown": shown,
        "choices": _choices(progress),
        "asked": asked.order_by("study_date", "id"),
        "groups": groups.order_by("study__created_at", "id"),
    }


def _choices(progress: Any) -> list[tuple[str, str, int]]:
    """What the lines may be narrowed to, with how many there are."""
    choices = [
        ("", _("All"), progress.files),
        ("accepted", _("Accepted"), progress.accepted),
        ("warned", _("With a remark"), progress.warnings),
        ("duplicate", _("Duplicates"), progress.duplicates),
        ("rejected", _("Rejected"), progress.rejected),
        ("asked", _("Need a patient"), progress.asked),
    ]
    return [choice for choice in choices if choice[2] or not choice[0]]
