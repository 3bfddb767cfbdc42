"""A patient's own uploads: new, list, page, picture, handing over, withdrawing, deleting."""

import hashlib
import uuid
from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.cache import patch_cache_control
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import AccessEvent, User
from ml.errors import MlError
from studies import access, uploads
from studies.access import current_user, patients_only
from studies.consent import CURRENT, wording
from studies.errors import HandoverError, IntakeError, InvalidTransitionError, OwnStudyError, QuotaError
from studies.intake import prepare_slice
from studies.models import Handover, Study
from studies.own import OwnUpload, check_quota, delete_own_study, submit_own_slice
from studies.own_forms import HandoverForm, OwnSliceForm
from studies.sentences import in_the_readers_language
from studies.views.files import send_picture


@never_cache
@require_safe
@patients_only
def own_list(request: HttpRequest) -> HttpResponseBase:
    """List what the patient uploaded."""
    studies = Study.objects.uploaded_by(current_user(request)).select_related("patient__hospital")
    return render(request, "studies/own_list.html", {"studies": studies})


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@patients_only
def own_create(request: HttpRequest) -> HttpResponseBase:
    """Take one slice in. What is wrong stands beside the field, nothing is stored, and what was typed stays."""
    patient = current_user(request)
    refusal = uploads.refusal(request) if request.method == "POST" else ""
    if request.method == "POST" and (twin := _received_before(request, patient=patient)):
        return redirect("studies:own_study", study_id=twin.id)
    try:
        check_quota(patient)
    except QuotaError as error:
        return render(request, "studies/own_create.html", {"quota": str(error)}, status=_status(request))
    form = OwnSliceForm(
        request.POST if request.method == "POST" else None,
        request.FILES if request.method == "POST" else None,
        refusal=refusal,
    )
    if form.is_valid():
        try:
            study = submit_own_slice(
                patient,
                birth_date=form.cleaned_data["birth_date"],
                study_date=form.cleaned_data["study_date"],
                question=form.cleaned_data["clinical_question"],
                upload=form.upload,
                consent_version=form.cleaned_data["consent_version"],
                study_id=form.cleaned_data["token"],
            )
        except IntakeError as error:
            form.add_error("slice", list(error.sentences))
        except QuotaError as error:
            form.add_error(None, str(error))
        else:
            AccessEvent.record(request, action=AccessEvent.Action.CREATED, target=study)
            messages.success(request, _("Your slice is received and is being analysed."))
            return redirect("studies:own_study", study_id=study.id)
    elif "slice" in getattr(form, "cleaned_data", {}):
        # The file will have to be chosen again anyway, so say now what is wrong with it.
        try:
            prepare_slice(form.upload)
        except MlError as error:
            form.add_error("slice", in_the_readers_language(str(error)))
    context = {"form": form, "wording": wording(CURRENT), "version": CURRENT}
    return render(request, "studies/own_create.html", context, status=400 if form.errors else 200)


@never_cache
@require_safe
@patients_only
def own_study(request: HttpRequest, study_id: uuid.UUID) -> HttpResponseBase:
    """Show one upload: the picture, where the analysis stands, and the way to a doctor."""
    study = access.own_study(current_user(request), study_id)
    AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=study)
    return render(request, "studies/own_study.html", _page_of(study))


@require_safe
@patients_only
def own_study_status(request: HttpRequest, study_id: uuid.UUID) -> HttpResponseBase:
    """Answer a page that asks for news: the changed part, or 204 while nothing has changed since ``seen``."""
    context = _page_of(access.own_study(current_user(request), study_id))
    response: HttpResponseBase
    if request.GET.get("seen") == context["seen"]:
        response = HttpResponse(status=204)
    else:
        response = render(request, "studies/_own_state.html", context | {"is_update": True})
    patch_cache_control(response, private=True, no_store=True)
    return response


@require_safe
@patients_only
def own_picture(request: HttpRequest, study_id: uuid.UUID) -> FileResponse:
    """Send the slice that the patient uploaded, as it is stored."""
    image = OwnUpload.of(access.own_study(current_user(request), study_id)).image
    if image is None:
        raise Http404
    return send_picture(request, image.file, target=image, name="slice.png")


@require_POST
@patients_only
def own_retry(request: HttpRequest, study_id: uuid.UUID) -> HttpResponseBase:
    """Queue another analysis after one that failed."""
    study = access.own_study(current_user(request), study_id)
    try:
        analysis = OwnUpload.of(study).analyse_again(by=current_user(request))
    except OwnStudyError as error:
        messages.info(request, str(error))
    except InvalidTransitionError as error:
        messages.warning(request, str(error))
    else:
        AccessEvent.record(request, action=AccessEvent.Action.CREATED, target=analysis)
    return redirect("studies:own_study", study_id=study.id)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@patients_only
def own_handover(request: HttpRequest, study_id: uuid.UUID) -> HttpResponseBase:
    """Ask the doctors of a hospital to take the upload over."""
    study = access.own_study(current_user(request), study_id)
    form = HandoverForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        hospital = form.cleaned_data["hospital"]
        try:
            handover = Handover.request(study, hospital=hospital, by=current_user(request))
        except HandoverError as error:
            messages.warning(request, str(error))
        else:
            AccessEvent.record(request, action=AccessEvent.Action.SHARED, target=handover)
            messages.success(request, _("The doctors of %(hospital)s are asked.") % {"hospital": hospital})
        return redirect("studies:own_study", study_id=study.id)
    return render(
        request, "studies/own_handover.html", {"study": study, "form": form}, status=400 if form.errors else 200
    )


@require_POST
@patients_only
def own_withdraw(request: HttpRequest, study_id: uuid.UUID) -> HttpResponseBase:
    """Take back the request that no doctor has answered yet."""
    study = access.own_study(current_user(request), study_id)
    handover = Handover.objects.newest_of(study)
    if handover is not None:
        try:
            handover.withdraw(by=current_user(request))
        except HandoverError as error:
            messages.warning(request, str(error))
        else:
            AccessEvent.record(request, action=AccessEvent.Action.UNSHARED, target=handover)
            messages.success(request, _("The request is withdrawn. No doctor sees anything of it any more."))
    return redirect("studies:own_study", study_id=study.id)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@patients_only
def own_delete(request: HttpRequest, study_id: uuid.UUID) -> HttpResponseBase:
    """Ask once more, then delete the upload with everything that came of it."""
    study = access.own_study(current_user(request), study_id)
    if request.method == "POST":
        try:
            delete_on_record(request, study)
        except OwnStudyError as error:
            messages.warning(request, str(error))
            return redirect("studies:own_study", study_id=study.id)
        messages.success(request, _("Picture and answer are deleted."))
        return redirect("studies:own_list")
    return render(request, "studies/own_delete.html", {"study": study})


def delete_on_record(request: HttpRequest, study: Study) -> None:
    """Delete an upload and note who did it. Raises what ``delete_own_study`` raises; nothing is noted then."""
    with transaction.atomic():
        # First, because afterwards nobody could tell whose it was.
        AccessEvent.record(request, action=AccessEvent.Action.DELETED, target=study)
        delete_own_study(study, by=current_user(request))


def _received_before(request: HttpRequest, *, patient: User) -> Study | None:
    try:
        token = uuid.UUID(request.POST.get("token", ""))
    except ValueError:
        return None
    return Study.objects.uploaded_by(patient).filter(id=token).first()


def _status(request: HttpRequest) -> int:
    return 400 if request.method == "POST" else 200


def _page_of(study: Study) -> dict[str, Any]:
    upload = OwnUpload.of(study)
    analysis, handover = upload.analysis, upload.handover
    facts = (analysis and (analysis.pk, analysis.state), handover and (handover.pk, handover.state))
    seen = hashlib.sha256(str(facts).encode()).hexdigest()[:16]
    return vars(upload) | {"seen": seen}
