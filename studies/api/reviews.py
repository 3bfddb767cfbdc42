"""What doctors say: first impression, judgements of findings, added findings, the class of a slice, and outlines."""

import uuid
from typing import Any

from django.forms import BaseForm
from django.http import HttpResponseBase
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.problems import check, conflict, invalid
from accounts.api.views import DOCTOR, ApiView, as_form, json_of
from accounts.models import AccessEvent
from studies.access import require_revealed
from studies.api.common import binary, require_change, visible_image, visible_study
from studies.api.serializers import (
    AddedFindingBody,
    ClassBody,
    FindingReviewSerializer,
    FirstImpressionBody,
    FirstImpressionSerializer,
    ImageReviewSerializer,
    JudgementBody,
)
from studies.errors import FirstImpressionNotedError, OutlineError, ReviewError, StaleReviewError
from studies.models import FindingReview, FirstImpression, Image
from studies.review_forms import FindingReviewForm, FirstImpressionForm, ImageReviewForm
from studies.reviewing import add_finding, review_finding, review_image
from studies.views import reviews as pages

TAGS = ["judgements"]


class StudyFirstImpression(ApiView):
    """What a doctor thinks before the software's answer is shown."""

    role = DOCTOR

    @extend_schema(
        operation_id="first_impression_note",
        tags=TAGS,
        summary="Note your first impression",
        description="From then on the software's answer is revealed to you. It cannot be changed afterwards (409).",
        request=FirstImpressionBody,
        examples=[
            OpenApiExample(
                "Suspicious",
                value={"diagnosis": "adenocarcinoma", "suspicion": 4, "note": "Spiculated, left upper lobe."},
                request_only=True,
            )
        ],
        responses={200: FirstImpressionSerializer, 201: FirstImpressionSerializer},
    )
    def post(self, request: Request, study_id: uuid.UUID) -> Response:
        """Note what the doctor thinks of the study; the same twice is one."""
        study = visible_study(self.user, study_id)
        form = FirstImpressionForm(as_form(json_of(request, FirstImpressionBody)))
        check(form)
        stored = study.first_impressions.filter(doctor=self.user).first()
        try:
            noted = FirstImpression.objects.note(study, doctor=self.user, **form.cleaned_data)
        except FirstImpressionNotedError as error:
            stored = study.first_impressions.filter(doctor=self.user).first()
            latest = FirstImpressionSerializer(stored).data if stored is not None else None
            raise conflict(error, latest=latest) from error
        if stored is None:
            AccessEvent.record(request, action=AccessEvent.Action.CREATED, target=noted)
        return Response(FirstImpressionSerializer(noted).data, status=201 if stored is None else 200)


class FindingReviews(ApiView):
    """The judgements of one finding."""

    role = DOCTOR

    @extend_schema(
        operation_id="finding_reviews_list",
        tags=TAGS,
        summary="All judgements of a finding, oldest first",
        responses=FindingReviewSerializer(many=True),
    )
    def get(self, request: Request, lesion_id: uuid.UUID) -> Response:
        """List what doctors have said of a finding."""
        image = pages.image_of_lesion(self.user, lesion_id)
        require_revealed(image.study, to=self.user)
        AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=image)
        history = FindingReview.objects.filter(lesion_id=lesion_id).select_related("by").order_by("revision")
        return Response(FindingReviewSerializer(history, many=True, context={"request": request}).data)

    @extend_schema(
        operation_id="finding_reviews_judge",
        tags=TAGS,
        summary="Accept, reject or correct a finding",
        description=(
            "`seen` names the judgement that was the latest when you looked. If a colleague was faster, nothing is "
            "overwritten: the answer is 409 with `latest`."
        ),
        request=JudgementBody,
        examples=[
            OpenApiExample("Accept", value={"verdict": "accepted"}, request_only=True),
            OpenApiExample(
                "Correct",
                value={"verdict": "corrected", "malignancy": 5, "diameter_mm": 14.5, "note": "Reaches the pleura."},
                request_only=True,
            ),
        ],
        responses={200: FindingReviewSerializer, 201: FindingReviewSerializer},
    )
    def post(self, request: Request, lesion_id: uuid.UUID) -> Response:
        """Judge a finding of the model, or one that a doctor added; the same twice is one."""
        image = pages.image_of_lesion(self.user, lesion_id)
        require_change(image.study, by=self.user)
        require_revealed(image.study, to=self.user)
        form = _judgement_form(json_of(request, JudgementBody), image=image)
        before = FindingReview.objects.filter(lesion_id=lesion_id).count()
        try:
            review = review_finding(
                image, lesion_id=lesion_id, by=self.user, judgement=form.judgement, seen=form.cleaned_data["seen"]
            )
        except StaleReviewError as error:
            history = FindingReview.objects.filter(lesion_id=lesion_id).order_by("-revision")
            latest = history.select_related("by").first()
            context = {"request": request}
            told = FindingReviewSerializer(latest, context=context).data if latest is not None else None
            raise conflict(error, latest=told) from error
        except OutlineError as error:
            raise invalid([("outline_png", str(error))]) from error
        except ReviewError as error:
            raise invalid([("", str(error))]) from error
        is_new = FindingReview.objects.filter(lesion_id=lesion_id).count() > before
        return _stored(request, review, is_new=is_new)


class SliceFindings(ApiView):
    """The findings of one slice."""

    role = DOCTOR

    @extend_schema(
        operation_id="findings_add",
        tags=TAGS,
        summary="Add a finding that the model missed",
        request=AddedFindingBody,
        examples=[
            OpenApiExample(
                "By its diameter",
                value={"diameter_mm": 9.0, "diagnosis": "adenocarcinoma", "malignancy": 4},
                request_only=True,
            )
        ],
        responses={200: FindingReviewSerializer, 201: FindingReviewSerializer},
    )
    def post(self, request: Request, image_id: uuid.UUID) -> Response:
        """Add a finding; the same twice is one."""
        image = visible_image(self.user, image_id)
        require_change(image.study, by=self.user)
        require_revealed(image.study, to=self.user)
        values = json_of(request, AddedFindingBody)
        values |= {"verdict": FindingReview.Verdict.ADDED.value, "token": values.pop("id", None)}
        form = _judgement_form(values, image=image)
        before = image.finding_reviews.count()
        try:
            review = add_finding(image, by=self.user, judgement=form.judgement, token=form.cleaned_data["token"])
        except StaleReviewError as error:
            raise conflict(error) from error
        except OutlineError as error:
            raise invalid([("outline_png", str(error))]) from error
        except ReviewError as error:
            raise invalid([("", str(error))]) from error
        return _stored(request, review, is_new=image.finding_reviews.count() > before)


class SliceClass(ApiView):
    """The class of one slice."""

    role = DOCTOR

    @extend_schema(
        operation_id="slices_judge",
        tags=TAGS,
        summary="Name the class of a slice beside the model's",
        request=ClassBody,
        responses={200: ImageReviewSerializer, 201: ImageReviewSerializer},
    )
    def post(self, request: Request, image_id: uuid.UUID) -> Response:
        """Store the doctor's class; the same twice is one, and 409 tells of a colleague's newer judgement."""
        image = visible_image(self.user, image_id)
        require_change(image.study, by=self.user)
        require_revealed(image.study, to=self.user)
        form = ImageReviewForm(as_form(json_of(request, ClassBody)))
        check(form)
        before = image.reviews.count()
        try:
            review = review_image(image, by=self.user, **form.cleaned_data)
        except StaleReviewError as error:
            latest = image.reviews.order_by("-revision").select_related("by").first()
            told = ImageReviewSerializer(latest).data if latest is not None else None
            raise conflict(error, latest=told) from error
        is_new = image.reviews.count() > before
        if is_new:
            AccessEvent.record(request, action=AccessEvent.Action.CREATED, target=review)
        return Response(ImageReviewSerializer(review).data, status=201 if is_new else 200)


class FindingOutline(ApiView):
    """The model's outline of one finding."""

    @extend_schema(
        operation_id="finding_outline",
        tags=TAGS,
        summary="The model's outline of one finding",
        responses=binary("image/png", "Grey PNG of the slice's size, 0 or 255."),
    )
    def get(self, request: Request, finding_id: uuid.UUID) -> HttpResponseBase:
        """Send the model's outline of one finding alone."""
        return pages.finding_outline(self.page_request, finding_id)


class ReviewOutline(ApiView):
    """A doctor's outline of one finding."""

    @extend_schema(
        operation_id="review_outline",
        tags=TAGS,
        summary="The outline that a doctor drew",
        responses=binary("image/png", "Grey PNG of the slice's size, 0 or 255."),
    )
    def get(self, request: Request, review_id: uuid.UUID) -> HttpResponseBase:
        """Send the outline that a doctor drew."""
        return pages.review_outline(self.page_request, review_id)


def _judgement_form(values: dict[str, Any], *, image: Image) -> FindingReviewForm:
    if "outline_png" in values:
        values["outline_kept"] = values.pop("outline_png")
    form = FindingReviewForm(as_form(values), has_spacing=image.pixel_spacing_mm is not None)
    check(_renamed(form))
    return form


def _renamed(form: FindingReviewForm) -> BaseForm:
    """Return the form; a damaged outline is told under the name that the body has for it."""
    for name in ("outline", "outline_kept"):
        if name in form.errors:
            raise invalid(("outline_png", str(sentence)) for sentence in form.errors[name])
    return form


def _stored(request: Request, review: FindingReview, *, is_new: bool) -> Response:
    if is_new:
        AccessEvent.record(request, action=AccessEvent.Action.CREATED, target=review)
    body = FindingReviewSerializer(review, context={"request": request}).data
    return Response(body, status=201 if is_new else 200)
