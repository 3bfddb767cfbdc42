"""Slices and their analyses: one of each, analysing again, taking out of the queue, and their pictures."""

import uuid
from typing import Any

from django.http import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.problems import conflict
from accounts.api.views import DOCTOR, ApiView, json_of
from accounts.models import AccessEvent
from studies.api.common import binary, link, require_change, visible_analysis, visible_image
from studies.api.serializers import AnalysisSerializer, CountSerializer, RetryBody, SliceSerializer
from studies.api.studies import slices_context
from studies.errors import InvalidTransitionError
from studies.intake import request_analysis
from studies.models import Analysis, Image, Study
from studies.views import files, reviews
from studies.worklist import chosen_studies

TAGS = ["slices and analyses"]
FIRST_IMPRESSION = "403 before you have noted a first impression, where your hospital reads first."


class OneSlice(ApiView):
    """One slice."""

    role = DOCTOR

    @extend_schema(operation_id="slices_read", tags=TAGS, summary="A slice with its answer", responses=SliceSerializer)
    def get(self, request: Request, image_id: uuid.UUID) -> Response:
        """Show one slice as in its study."""
        image = visible_image(self.user, image_id)
        AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=image)
        context = slices_context(request, image.study, images=[image], doctor=self.user)
        return Response(SliceSerializer(image, context=context).data)


class SliceAnalyses(ApiView):
    """The analyses of a slice."""

    role = DOCTOR

    @extend_schema(
        operation_id="analyses_list",
        tags=TAGS,
        summary="All analyses of a slice, newest first",
        responses=AnalysisSerializer(many=True),
    )
    def get(self, request: Request, image_id: uuid.UUID) -> Response:
        """List the analyses of a slice."""
        image = visible_image(self.user, image_id)
        AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=image)
        context = {"request": request, "is_revealed": image.study.reveals_ai_to(self.user)}
        found = image.analyses.select_related("image").order_by("-queued_at", "-id")
        return Response(AnalysisSerializer(found, many=True, context=context).data)

    @extend_schema(
        operation_id="analyses_run_again",
        tags=TAGS,
        summary="Analyse a slice again",
        request=None,
        responses={201: AnalysisSerializer},
    )
    def post(self, request: Request, image_id: uuid.UUID) -> Response:
        """Queue a new analysis; 409 while another one of the slice waits or runs."""
        image = visible_image(self.user, image_id)
        require_change(image.study, by=self.user)
        try:
            analysis = request_analysis(image, by=self.user)
        except InvalidTransitionError as error:
            raise conflict(error) from error
        AccessEvent.record(request, action=AccessEvent.Action.CREATED, target=analysis)
        headers = {"Location": link(request, "analysis", analysis_id=analysis.pk)}
        return Response(_json(request, analysis), status=201, headers=headers)


class OneAnalysis(ApiView):
    """One analysis."""

    role = DOCTOR

    @extend_schema(
        operation_id="analyses_read", tags=TAGS, summary="State and answer of an analysis", responses=AnalysisSerializer
    )
    def get(self, request: Request, analysis_id: uuid.UUID) -> Response:
        """Show where an analysis stands and, once it is done and revealed to the doctor, what it says."""
        analysis = visible_analysis(self.user, analysis_id)
        AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=analysis)
        is_revealed = analysis.image.study.reveals_ai_to(self.user)
        return Response(_json(request, analysis, is_revealed=is_revealed))


class AnalysisCancel(ApiView):
    """Taking an analysis out of the queue."""

    role = DOCTOR

    @extend_schema(
        operation_id="analyses_cancel",
        tags=TAGS,
        summary="Take a waiting analysis out of the queue",
        request=None,
        responses=AnalysisSerializer,
    )
    def post(self, request: Request, analysis_id: uuid.UUID) -> Response:
        """Cancel an analysis; 409 once it has started."""
        analysis = visible_analysis(self.user, analysis_id)
        require_change(analysis.image.study, by=self.user)
        try:
            analysis.cancel()
        except InvalidTransitionError as error:
            raise conflict(error) from error
        AccessEvent.record(request, action=AccessEvent.Action.CHANGED, target=analysis)
        return Response(_json(request, analysis))


class StudyRetries(ApiView):
    """What failed, once more."""

    role = DOCTOR

    @extend_schema(
        operation_id="studies_retry",
        tags=TAGS,
        summary="Analyse the failed slices of studies again",
        request=RetryBody,
        responses={202: CountSerializer},
    )
    def post(self, request: Request) -> Response:
        """Queue the failed slices of those of the named studies that may be changed; tell how many slices these are."""
        asked = [str(one) for one in json_of(request, RetryBody)["studies"]]
        ids = list(chosen_studies(self.user, asked=asked).values_list("id", flat=True))
        changeable = Study.objects.changeable_by(self.user).filter(id__in=ids)
        failed = Image.objects.filter(study__in=changeable).with_state().filter(state=Analysis.State.FAILED)  # type: ignore[misc] # annotated
        count = 0
        for image in failed:
            try:
                analysis = request_analysis(image, by=self.user)
            except InvalidTransitionError:
                # Somebody else was faster: the slice waits already, which is what was asked for.
                continue
            AccessEvent.record(request, action=AccessEvent.Action.CREATED, target=analysis)
            count += 1
        return Response({"count": count}, status=202)


class SlicePicture(ApiView):
    """The picture of a slice."""

    @extend_schema(
        operation_id="slices_picture",
        tags=TAGS,
        summary="The slice as it was analysed",
        responses=binary("image/png", "Grey PNG, 8 bit."),
    )
    def get(self, request: Request, image_id: uuid.UUID) -> HttpResponseBase:
        """Send a slice as it was analysed."""
        return files.image_file(self.page_request, image_id)


class SliceJudged(ApiView):
    """A slice with what counts drawn in."""

    @extend_schema(
        operation_id="slices_judged",
        tags=TAGS,
        summary="The slice with the findings as the doctors left them",
        description=FIRST_IMPRESSION,
        responses=binary("image/png", "Colour PNG."),
    )
    def get(self, request: Request, image_id: uuid.UUID) -> HttpResponseBase:
        """Send the slice with the findings that count, numbered."""
        return reviews.image_judged(self.page_request, image_id)


class AnalysisOverlay(ApiView):
    """The overlay of an answer."""

    @extend_schema(
        operation_id="analyses_overlay",
        tags=TAGS,
        summary="The slice with the outlined findings",
        description=FIRST_IMPRESSION,
        responses=binary("image/png", "Colour PNG."),
    )
    def get(self, request: Request, analysis_id: uuid.UUID) -> HttpResponseBase:
        """Send the slice with the outlined findings."""
        return files.analysis_overlay(self.page_request, analysis_id)


class AnalysisMask(ApiView):
    """The mask of an answer."""

    @extend_schema(
        operation_id="analyses_mask",
        tags=TAGS,
        summary="The outlines as a mask",
        description=FIRST_IMPRESSION,
        responses=binary("image/png", "Grey PNG of the slice's size, 0 or 255."),
    )
    def get(self, request: Request, analysis_id: uuid.UUID) -> HttpResponseBase:
        """Send the outline as a mask, 0 or 255."""
        return files.analysis_mask(self.page_request, analysis_id)


class AnalysisActivation(ApiView):
    """Where the model looked."""

    @extend_schema(
        operation_id="analyses_activation",
        tags=TAGS,
        summary="Where the model looked",
        description=f"It explains nothing and proves nothing. {FIRST_IMPRESSION}",
        responses=binary("image/png", "Grey PNG of the slice's size."),
    )
    def get(self, request: Request, analysis_id: uuid.UUID) -> HttpResponseBase:
        """Send the picture of where the model looked."""
        return files.analysis_activation(self.page_request, analysis_id)


def _json(request: Request, analysis: Analysis, *, is_revealed: bool = False) -> Any:
    return AnalysisSerializer(analysis, context={"request": request, "is_revealed": is_revealed}).data
