"""What a doctor says: the first impression, judgements of findings and slices, and the JSON that a viewer reads.

Every address that takes a judgement is a page with a form too, so that nothing needs JavaScript. Asked with
``Accept: application/json`` it answers

- 200 ``{"first_impression": …}``, ``{"review": …}`` or ``{"image_review": …}`` when stored, now or before,
- 400 ``{"error": sentence, "errors": {field: [sentences]}}`` for what cannot be stored,
- 403 ``{"error": sentence}`` for who may only read, or has not noted a first impression yet,
- 409 ``{"error": sentence, "latest": … or null}`` when somebody else was faster; nothing is overwritten.
"""

import uuid
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models.fields.files import FieldFile
from django.forms import Form, ModelForm
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from accounts.models import AccessEvent, User
from studies import uploads
from studies.access import current_user, doctors_only, require_revealed
from studies.errors import FirstImpressionNotedError, OutlineError, ReviewError, StaleReviewError
from studies.keeping import forget_entries, keeps_entries, kept_entries
from studies.models import EffectiveFinding, Finding, FindingReview, FirstImpression, Image, Study, judged_findings
from studies.outlines import region_of
from studies.pictures import draw_judged
from studies.reading import finding_review_json, first_impression_json, image_review_json, reading_json
from studies.review_forms import FindingReviewForm, FirstImpressionForm, ImageReviewForm
from studies.reviewing import add_finding, review_finding, review_image
from studies.views.files import send_picture


@never_cache
@require_safe
@doctors_only
def reading(request: HttpRequest, study_id: uuid.UUID) -> HttpResponseBase:
    """Tell a viewer everything about a study that this doctor may know."""
    doctor = current_user(request)
    study = visible_study(doctor, study_id)
    AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=study)
    return JsonResponse(reading_json(study, doctor=doctor))


@keeps_entries
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@doctors_only
def first_impression(request: HttpRequest, study_id: uuid.UUID) -> HttpResponseBase:
    """Note what the doctor thinks of the study; from then on the software's answer is shown to them."""
    doctor = current_user(request)
    study = visible_study(doctor, study_id)
    stored = study.first_impressions.filter(doctor=doctor).first()
    if request.method != "POST":
        if stored is not None:
            return redirect(reading_address(request, study=study))
        return _first_impression_page(request, study=study, form=FirstImpressionForm(initial=kept_entries(request)))
    form = FirstImpressionForm(request.POST)
    if not form.is_valid():
        if wants_json(request):
            return _refused(form)
        return _first_impression_page(request, study=study, form=form, status=400)
    try:
        noted = FirstImpression.objects.note(study, doctor=doctor, **form.cleaned_data)
    except FirstImpressionNotedError as error:
        stored = study.first_impressions.filter(doctor=doctor).first()
        if wants_json(request):
            latest = first_impression_json(stored) if stored is not None else None
            return JsonResponse({"error": str(error), "latest": latest}, status=409)
        return _first_impression_page(request, study=study, form=form, problem=str(error), stored=stored, status=409)
    forget_entries(request)
    if stored is None:
        AccessEvent.record(request, action=AccessEvent.Action.CREATED, target=noted)
    if wants_json(request):
        return JsonResponse({"first_impression": first_impression_json(noted)})
    messages.success(request, _("Your first impression is noted. What the software says is shown now."))
    return redirect(reading_address(request, study=study, number=request.POST.get("slice", "")))


@keeps_entries
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@doctors_only
def finding_reviews(request: HttpRequest, lesion_id: uuid.UUID) -> HttpResponseBase:
    """Judge a finding of the model, or one that a doctor added: accept, reject or correct it."""
    doctor = current_user(request)
    image = image_of_lesion(doctor, lesion_id)
    if refusal := _may_not_judge(request, study=image.study, doctor=doctor):
        return refusal
    if request.method != "POST":
        AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=image)
        found = _judged(image, lesion_id)
        return _finding_page(request, image=image, found=found, form=_form_for(request, image=image, found=found))
    form = FindingReviewForm(
        request.POST, request.FILES, refusal=uploads.refusal(request), has_spacing=image.pixel_spacing_mm is not None
    )
    if form.is_valid():
        before = FindingReview.objects.filter(lesion_id=lesion_id).count()
        try:
            review = review_finding(
                image, lesion_id=lesion_id, by=doctor, judgement=form.judgement, seen=form.cleaned_data["seen"]
            )
        except StaleReviewError as error:
            return _finding_conflict(request, image=image, lesion_id=lesion_id, form=form, problem=str(error))
        except OutlineError as error:
            form.add_error("outline", str(error))
        except ReviewError as error:
            form.add_error(None, str(error))
        else:
            is_new = FindingReview.objects.filter(lesion_id=lesion_id).count() > before
            return _finding_stored(request, review=review, image=image, is_new=is_new)
    if wants_json(request):
        return _refused(form)
    return _finding_page(request, image=image, found=_judged(image, lesion_id), form=form, status=400)


@keeps_entries
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@doctors_only
def image_reviews(request: HttpRequest, image_id: uuid.UUID) -> HttpResponseBase:
    """Add a finding that the model missed (``verdict=added``), or name the class of the slice (``diagnosis``)."""
    doctor = current_user(request)
    visible = Image.objects.visible_to(doctor).select_related("study__patient__hospital")
    image = get_object_or_404(visible, id=image_id)
    if refusal := _may_not_judge(request, study=image.study, doctor=doctor):
        return refusal
    if request.method != "POST":
        AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=image)
        return _image_page(request, image=image)
    if "verdict" in request.POST or request.FILES or uploads.refusal(request):
        return _add_finding(request, image=image, doctor=doctor)
    return _judge_slice(request, image=image, doctor=doctor)


@require_safe
@doctors_only
def finding_outline(request: HttpRequest, finding_id: uuid.UUID) -> HttpResponseBase:
    """Send the model's outline of one finding alone, as a mask of the slice's size, 0 or 255."""
    doctor = current_user(request)
    visible = Finding.objects.filter(analysis__image__in=Image.objects.visible_to(doctor))
    found = get_object_or_404(visible.select_related("analysis__image__study__patient__hospital"), id=finding_id)
    require_revealed(found.analysis.image.study, to=doctor)
    box = (found.box_x, found.box_y, found.box_width, found.box_height)
    try:
        with found.analysis.mask.open("rb") as file:
            png = region_of(file.read(), box=box)
    except (OSError, ValueError):
        raise Http404 from None
    AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=found)
    return _picture(png)


@require_safe
@doctors_only
def review_outline(request: HttpRequest, review_id: uuid.UUID) -> HttpResponseBase:
    """Send the outline that a doctor drew, as a mask of the slice's size, 0 or 255."""
    doctor = current_user(request)
    visible = FindingReview.objects.filter(image__in=Image.objects.visible_to(doctor)).exclude(outline="")
    review = get_object_or_404(visible.select_related("image__study__patient__hospital"), id=review_id)
    require_revealed(review.image.study, to=doctor)
    file: FieldFile = review.outline
    return send_picture(request, file, target=review, name="outline.png")


@require_safe
@doctors_only
def image_judged(request: HttpRequest, image_id: uuid.UUID) -> HttpResponseBase:
    """Send the slice with the findings that count as the doctors left them, numbered."""
    doctor = current_user(request)
    visible = Image.objects.visible_to(doctor).select_related("study__patient__hospital")
    image = get_object_or_404(visible, id=image_id)
    require_revealed(image.study, to=doctor)
    try:
        png = draw_judged(image, judged_findings([image])[image.id])
    except (OSError, ValueError):
        raise Http404 from None
    AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=image)
    return _picture(png)


def wants_json(request: HttpRequest) -> bool:
    """Whether a script asks rather than a person's browser."""
    return request.get_preferred_type(["text/html", "application/json"]) == "application/json"


def reading_address(request: HttpRequest, *, study: Study, number: str | int = "") -> str:
    """Return the address of the page that the doctor judged from: the reading page, or the study's own."""
    is_reading = "read" in (request.POST.get("back"), request.GET.get("back"))
    name = "studies:study_read" if is_reading else "studies:study_detail"
    address = reverse(name, kwargs={"study_id": study.id})
    return f"{address}?slice={number}" if str(number).isdecimal() else address


def _picture(png: bytes) -> HttpResponse:
    headers = {"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"}
    return HttpResponse(png, content_type="image/png", headers=headers)


def visible_study(doctor: User, study_id: uuid.UUID) -> Study:
    """Return a study with its patient and hospital; what this doctor may not see does not exist."""
    visible = Study.objects.visible_to(doctor).select_related("patient__hospital", "created_by")
    return get_object_or_404(visible, id=study_id)


def image_of_lesion(doctor: User, lesion_id: uuid.UUID) -> Image:
    """Return the slice of a finding, the model's or an added one; what this doctor may not see does not exist."""
    images = Image.objects.visible_to(doctor).select_related("study__patient__hospital")
    image = (
        images.filter(analyses__findings=lesion_id).first()
        or images.filter(finding_reviews__lesion_id=lesion_id).first()
    )
    if image is None:
        raise Http404
    return image


def _may_not_judge(request: HttpRequest, *, study: Study, doctor: User) -> HttpResponseBase | None:
    """Say why the doctor may not judge: a sentence for a script, an error for a page; None if they may."""
    try:
        if not study.can_be_changed_by(doctor):
            raise PermissionDenied(_("You may read this study, but not change it."))
        require_revealed(study, to=doctor)
    except PermissionDenied as error:
        if wants_json(request):
            return JsonResponse({"error": str(error)}, status=403)
        raise
    return None


def _judged(image: Image, lesion_id: uuid.UUID) -> EffectiveFinding | None:
    """Return the finding as it stands, or None if it belongs to an earlier answer of the model."""
    return next((found for found in judged_findings([image])[image.id] if found.lesion_id == lesion_id), None)


def _form_for(request: HttpRequest, *, image: Image, found: EffectiveFinding | None) -> FindingReviewForm:
    initial: dict[str, Any] = {"verdict": FindingReview.Verdict.CORRECTED}
    if found is not None:
        initial |= {
            "seen": found.review.id if found.review is not None else None,
            "diagnosis": found.diagnosis,
            "malignancy": found.malignancy,
            "note": found.note,
        }
    return FindingReviewForm(initial=initial | kept_entries(request), has_spacing=image.pixel_spacing_mm is not None)


def _finding_stored(request: HttpRequest, *, review: FindingReview, image: Image, is_new: bool) -> HttpResponseBase:
    forget_entries(request)
    if is_new:
        AccessEvent.record(request, action=AccessEvent.Action.CREATED, target=review)
    if wants_json(request):
        return JsonResponse({"review": finding_review_json(review)})
    messages.success(request, _("Your judgement is stored beside the software's answer."))
    return redirect(reading_address(request, study=image.study, number=image.number))


def _finding_conflict(
    request: HttpRequest, *, image: Image, lesion_id: uuid.UUID, form: FindingReviewForm, problem: str
) -> HttpResponseBase:
    latest = FindingReview.objects.filter(lesion_id=lesion_id).order_by("-revision").select_related("by").first()
    if wants_json(request):
        body = {"error": problem, "latest": finding_review_json(latest) if latest is not None else None}
        return JsonResponse(body, status=409)
    # The form keeps everything, but now knows the newer judgement: sending it again is a decision.
    again = _resend(form, seen=latest.id if latest is not None else None)
    found = _judged(image, lesion_id)
    return _finding_page(request, image=image, found=found, form=again, problem=problem, status=409)


def _resend(form: FindingReviewForm, *, seen: uuid.UUID | None) -> FindingReviewForm:
    """Return an unbound copy of a form with everything that was entered, the drawn outline included."""
    initial = dict(form.cleaned_data) | {"seen": seen, "outline": None, "outline_kept": form.kept_outline}
    return FindingReviewForm(initial=initial, has_spacing=form.unused_diameter == "diameter_px")


def _finding_page(
    request: HttpRequest,
    *,
    image: Image,
    found: EffectiveFinding | None,
    form: FindingReviewForm,
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    context = {"study": image.study, "image": image, "found": found, "form": form, "problem": problem}
    return render(request, "studies/finding_review.html", context | {"kept_outline": _kept(form)}, status=status)


def _kept(form: FindingReviewForm) -> str:
    return form.kept_outline or str(form.initial.get("outline_kept") or "")


def _add_finding(request: HttpRequest, *, image: Image, doctor: User) -> HttpResponseBase:
    form = FindingReviewForm(
        request.POST, request.FILES, refusal=uploads.refusal(request), has_spacing=image.pixel_spacing_mm is not None
    )
    if form.is_valid():
        before = image.finding_reviews.count()
        try:
            if form.cleaned_data["verdict"] != FindingReview.Verdict.ADDED:
                raise ReviewError(_("On a slice a finding can only be added. Please judge the finding itself."))
            review = add_finding(image, by=doctor, judgement=form.judgement, token=form.cleaned_data["token"])
        except StaleReviewError as error:
            if wants_json(request):
                return JsonResponse({"error": str(error), "latest": None}, status=409)
            return _image_page(request, image=image, added=form, problem=str(error), status=409)
        except OutlineError as error:
            form.add_error("outline", str(error))
        except ReviewError as error:
            form.add_error(None, str(error))
        else:
            return _finding_stored(request, review=review, image=image, is_new=image.finding_reviews.count() > before)
    if wants_json(request):
        return _refused(form)
    return _image_page(request, image=image, added=form, status=400)


def _judge_slice(request: HttpRequest, *, image: Image, doctor: User) -> HttpResponseBase:
    form = ImageReviewForm(request.POST)
    if not form.is_valid():
        if wants_json(request):
            return _refused(form)
        return _image_page(request, image=image, judged=form, status=400)
    diagnosis, before = form.cleaned_data["diagnosis"], image.reviews.count()
    try:
        review = review_image(image, by=doctor, diagnosis=diagnosis, seen=form.cleaned_data["seen"])
    except StaleReviewError as error:
        latest = image.reviews.order_by("-revision").select_related("by").first()
        if wants_json(request):
            body = {"error": str(error), "latest": image_review_json(latest) if latest is not None else None}
            return JsonResponse(body, status=409)
        again = ImageReviewForm(initial={"diagnosis": diagnosis, "seen": latest.id if latest is not None else None})
        return _image_page(request, image=image, judged=again, problem=str(error), status=409)
    if image.reviews.count() > before:
        AccessEvent.record(request, action=AccessEvent.Action.CREATED, target=review)
    if wants_json(request):
        return JsonResponse({"image_review": image_review_json(review)})
    messages.success(request, _("Your judgement is stored beside the software's answer."))
    return redirect(reading_address(request, study=image.study, number=image.number))


def _image_page(
    request: HttpRequest,
    *,
    image: Image,
    added: FindingReviewForm | None = None,
    judged: ImageReviewForm | None = None,
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    latest = image.reviews.order_by("-revision").select_related("by").first()
    if judged is None:
        judged = ImageReviewForm(
            initial={"seen": latest.id, "diagnosis": latest.diagnosis} if latest is not None else None
        )
    if added is None:
        initial = {"verdict": FindingReview.Verdict.ADDED, "token": uuid.uuid4()} | kept_entries(request)
        added = FindingReviewForm(initial=initial, has_spacing=image.pixel_spacing_mm is not None)
    context = {
        "study": image.study,
        "image": image,
        "answer": image.latest_success,
        "added": added,
        "kept_outline": _kept(added),
        "judged": judged,
        "latest": latest,
        "problem": problem,
    }
    return render(request, "studies/image_review.html", context, status=status)


def _first_impression_page(
    request: HttpRequest,
    *,
    study: Study,
    form: FirstImpressionForm,
    problem: str = "",
    stored: FirstImpression | None = None,
    status: int = 200,
) -> HttpResponse:
    context = {"study": study, "form": form, "problem": problem, "stored": stored, "image": study.images.first()}
    return render(request, "studies/first_impression.html", context, status=status)


def _refused(form: Form | ModelForm) -> JsonResponse:
    errors = {name: [str(sentence) for sentence in sentences] for name, sentences in form.errors.items()}
    sentence = " ".join(sentence for sentences in errors.values() for sentence in sentences)
    return JsonResponse({"error": sentence, "errors": errors}, status=400)
