"""Studies: new, page with its self-updating part, more slices, sharing, analysing again."""

import hashlib
import uuid
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import patch_cache_control
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import AccessEvent, User
from studies import uploads
from studies.access import current_user, doctors_only
from studies.agreement import compare_with_ai
from studies.earlier import earlier_judgements
from studies.errors import GrantError, IntakeError, InvalidTransitionError, RecordNumberTakenError
from studies.forms import ShareForm, SlicesForm, StudyForm
from studies.intake import add_slices, prepare_slices, request_analysis, submit_study
from studies.model_card import describe_model
from studies.models import Analysis, Image, Study, judged_findings
from studies.permissions import grant_study
from studies.review_forms import FirstImpressionForm


@require_http_methods(["GET", "HEAD", "POST"])
@doctors_only
def study_create(request: HttpRequest) -> HttpResponseBase:
    """Take a new study in. What is wrong stands beside the field, nothing is stored, and what was typed stays."""
    doctor = current_user(request)
    if "find_patient" in request.POST:
        # The search for a patient without JavaScript: the same form, with all that was typed and nothing judged yet.
        form = StudyForm(doctor=doctor, patient_id=request.POST.get("patient", ""), initial=request.POST.dict())
    elif request.method == "POST":
        refusal = uploads.refusal(request)
        if twin := _received_before(request, doctor=doctor):
            return redirect("studies:study_detail", study_id=twin.id)
        form = StudyForm(request.POST, request.FILES, doctor=doctor, refusal=refusal)
        if form.is_valid():
            try:
                study = submit_study(
                    doctor,
                    patient=form.chosen_patient,
                    study_date=form.cleaned_data["study_date"],
                    clinical_question=form.cleaned_data["clinical_question"],
                    uploads=form.uploads,
                    study_id=form.cleaned_data["token"],
                )
            except RecordNumberTakenError as error:
                # The same form, sent twice at once: the other request was faster.
                if twin := _received_before(request, doctor=doctor):
                    return redirect("studies:study_detail", study_id=twin.id)
                form.add_error("record_number", str(error))
            except IntakeError as error:
                form.refuse(error.sentences)
            else:
                AccessEvent.record(request, action=AccessEvent.Action.CREATED, target=study)
                messages.success(request, _("The study is received."))
                return redirect("studies:study_detail", study_id=study.id)
        elif "slices" in form.cleaned_data:
            # The files will have to be chosen again anyway, so say now what is wrong with them.
            try:
                prepare_slices(form.uploads)
            except IntakeError as error:
                form.refuse(error.sentences)
    else:
        form = StudyForm(
            doctor=doctor, patient_id=request.GET.get("patient", ""), initial={"study_date": timezone.localdate()}
        )
    return render(request, "studies/study_create.html", {"form": form}, status=400 if form.errors else 200)


@require_safe
@doctors_only
def patient_find(request: HttpRequest) -> HttpResponseBase:
    """Answer the search for a patient in the form of a new study: the choices, as part of that form."""
    asked = {"find": request.GET.get("find", "")}
    form = StudyForm(doctor=current_user(request), patient_id=request.GET.get("patient", ""), initial=asked)
    response = render(request, "studies/_patient_choices.html", {"form": form})
    patch_cache_control(response, private=True, no_store=True)
    return response


@require_safe
@doctors_only
def study_detail(request: HttpRequest, study_id: uuid.UUID) -> HttpResponseBase:
    """Show a study: one slice of it with its analysis, and the way to the others."""
    doctor = current_user(request)
    study = _visible_study(doctor, study_id)
    AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=study)
    study.mark_read(by=doctor)
    return render(request, "studies/study_detail.html", _page_of_study(request, study=study, doctor=doctor))


@require_safe
@doctors_only
def study_status(request: HttpRequest, study_id: uuid.UUID) -> HttpResponseBase:
    """Answer a page that asks for news: the changed part, or 204 while nothing has changed since ``seen``."""
    doctor = current_user(request)
    study = _visible_study(doctor, study_id)
    context = _page_of_study(request, study=study, doctor=doctor)
    response: HttpResponseBase
    if request.GET.get("seen") == context["seen"]:
        response = HttpResponse(status=204)
    else:
        AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=study)
        study.mark_read(by=doctor)
        response = render(request, "studies/_slices.html", context | {"is_update": True})
    patch_cache_control(response, private=True, no_store=True)
    return response


@require_http_methods(["GET", "HEAD", "POST"])
@doctors_only
def image_add(request: HttpRequest, study_id: uuid.UUID) -> HttpResponseBase:
    """Append slices to a study."""
    doctor = current_user(request)
    study = _changeable_study(doctor, study_id)
    if request.method == "POST":
        form = SlicesForm(request.POST, request.FILES, refusal=uploads.refusal(request))
        if form.is_valid():
            try:
                images = add_slices(study, doctor=doctor, uploads=form.uploads)
            except IntakeError as error:
                form.refuse(error.sentences)
            else:
                for image in images:
                    AccessEvent.record(request, action=AccessEvent.Action.CREATED, target=image)
                text = ngettext("%(count)d slice is added.", "%(count)d slices are added.", len(images))
                messages.success(request, text % {"count": len(images)})
                return redirect(_address_of_slice(images[0]))
    else:
        form = SlicesForm()
    slices = study.images.order_by("number")
    return render(
        request,
        "studies/image_add.html",
        {"study": study, "form": form, "slices": slices},
        status=400 if form.errors else 200,
    )


@require_http_methods(["GET", "HEAD", "POST"])
@doctors_only
def study_share(request: HttpRequest, study_id: uuid.UUID) -> HttpResponseBase:
    """Give a colleague of the same hospital access."""
    doctor = current_user(request)
    study = _changeable_study(doctor, study_id)
    form = ShareForm(request.POST if request.method == "POST" else None, study=study, doctor=doctor)
    if form.is_valid():
        colleague = form.cleaned_data["colleague"]
        try:
            grant_study(study, to=colleague, can_change=form.cleaned_data["can_change"])
        except GrantError as error:
            form.add_error("colleague", str(error))
        else:
            AccessEvent.record(request, action=AccessEvent.Action.CHANGED, target=study)
            messages.success(request, _("%(colleague)s can see this study now.") % {"colleague": colleague})
            return redirect("studies:study_share", study_id=study.id)
    return render(
        request,
        "studies/study_share.html",
        {"study": study, "form": form, "people": study.people_with_access()},
        status=400 if form.errors else 200,
    )


@require_POST
@doctors_only
def analysis_rerun(request: HttpRequest, analysis_id: uuid.UUID) -> HttpResponseBase:
    """Queue a new analysis of the same slice."""
    doctor = current_user(request)
    image = _changeable_analysis(doctor, analysis_id).image
    try:
        analysis = request_analysis(image, by=doctor)
    except InvalidTransitionError as error:
        messages.warning(request, str(error))
    else:
        AccessEvent.record(request, action=AccessEvent.Action.CREATED, target=analysis)
    return redirect(_address_of_slice(image))


@require_POST
@doctors_only
def analysis_cancel(request: HttpRequest, analysis_id: uuid.UUID) -> HttpResponseBase:
    """Take a waiting analysis out of the queue."""
    analysis = _changeable_analysis(current_user(request), analysis_id)
    try:
        analysis.cancel()
    except InvalidTransitionError as error:
        messages.warning(request, str(error))
    else:
        AccessEvent.record(request, action=AccessEvent.Action.CHANGED, target=analysis)
        messages.success(request, _("The analysis is cancelled."))
    return redirect(_address_of_slice(analysis.image))


def _received_before(request: HttpRequest, *, doctor: User) -> Study | None:
    try:
        token = uuid.UUID(request.POST.get("token", ""))
    except ValueError:
        return None
    return Study.objects.visible_to(doctor).filter(id=token, created_by=doctor).first()


def _visible_study(doctor: User, study_id: uuid.UUID) -> Study:
    return get_object_or_404(
        Study.objects.visible_to(doctor).select_related("patient__hospital", "created_by"), id=study_id
    )


def _changeable_study(doctor: User, study_id: uuid.UUID) -> Study:
    study = _visible_study(doctor, study_id)
    if not study.can_be_changed_by(doctor):
        raise PermissionDenied(_("You may read this study, but not change it."))
    return study


def _changeable_analysis(doctor: User, analysis_id: uuid.UUID) -> Analysis:
    visible = Analysis.objects.visible_to(doctor).select_related("image__study__patient")
    analysis = get_object_or_404(visible, id=analysis_id)
    if not analysis.image.study.can_be_changed_by(doctor):
        raise PermissionDenied(_("You may read this study, but not change it."))
    return analysis


def _address_of_slice(image: Image) -> str:
    return f"{reverse('studies:study_detail', kwargs={'study_id': image.study_id})}?slice={image.number}"


def _page_of_study(request: HttpRequest, *, study: Study, doctor: User) -> dict[str, Any]:
    """Gather what the page of a study shows: all slices in short, and the one that ``?slice=`` names in full.

    What the software said, and what doctors made of it, is left out until the study is revealed to this doctor.
    """
    is_revealed = study.reveals_ai_to(doctor)
    slices = list(study.images.with_state().order_by("number"))
    image = next((image for image in slices if str(image.number) == request.GET.get("slice")), None)
    if image is None:
        image = slices[0] if slices else None
    analyses = list(image.analyses.select_related("requested_by")) if image else []
    newest = analyses[0] if analyses else None
    shown = _shown_answer(request, analyses=analyses) if is_revealed else None
    own_impression = study.first_impressions.filter(doctor=doctor).first()
    judged = judged_findings([image])[image.id] if image is not None and is_revealed else ()
    facts = "|".join(f"{image.newest_analysis_id} {image.state}" for image in slices)
    return {
        "study": study,
        "slices": slices,
        "image": image,
        "newest": newest,
        "shown": shown,
        "is_revealed": is_revealed,
        "impression_form": None if is_revealed else FirstImpressionForm(),
        "own_impression": own_impression,
        "comparison": compare_with_ai(own_impression) if own_impression is not None and is_revealed else None,
        "judged": judged,
        "earlier": earlier_judgements(image, judged=judged) if image is not None and is_revealed else (),
        "slice_review": image.reviews.order_by("-revision").select_related("by").first()
        if image is not None and is_revealed
        else None,
        "findings": list(shown.findings.all()) if shown else [],
        "analyses": analyses,
        "figures": describe_model(shown.model_version).figures if shown else (),
        "can_change": study.can_be_changed_by(doctor),
        "is_active": any(image.state in Analysis.ACTIVE for image in slices),
        "seen": hashlib.sha256(facts.encode()).hexdigest()[:16],
    }


def _shown_answer(request: HttpRequest, *, analyses: list[Analysis]) -> Analysis | None:
    answers = [analysis for analysis in analyses if analysis.has_answer]
    if wanted := request.GET.get("analysis"):
        chosen = next((analysis for analysis in answers if str(analysis.id) == wanted), None)
        if chosen is None:
            raise Http404
        return chosen
    return answers[0] if answers else None
