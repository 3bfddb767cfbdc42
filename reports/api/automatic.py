"""The automatic report on a patient's own upload: its plain words, its PDF, its picture."""

import hashlib
import uuid
from typing import Any

from django.http import HttpResponseBase
from django.utils.translation import get_language
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.problems import ProblemError
from accounts.api.views import PATIENT, ApiView
from accounts.models import AccessEvent
from reports.api.reports import IF_NONE_MATCH, not_modified
from reports.api.serializers import ExplanationSerializer
from reports.automatic import MARK
from reports.errors import PdfError
from reports.explanation import explain
from reports.models import AutomaticReport
from reports.views import automatic as pages
from studies.api.common import binary
from studies.api.own import TAGS
from studies.api.serializers import Linked

EXAMPLE = {
    "id": "9d0c6d3e-0f8f-4c57-9f0e-7a3f1d0a9b21",
    "study_id": "0b6b3cf2-8a39-4f4e-8f1f-0f6f2e9c1a11",
    "mark": "Automatic, not read by a doctor",
    "made_at": "2026-03-09T08:13:02Z",
    "study_date": "2026-02-02",
    "places": [{"number": 1, "size": "17.6 × 14.3 mm"}],
    "explanation": {
        "looked_at": ["A computer program looked at one slice of your CT."],
        "found": ["The computer marked one place."],
        "certainty": ["The computer is often wrong."],
        "next_steps": ["Show this to a doctor before you decide anything."],
    },
    "models": [{"name": "Starter", "version": "starter-3", "note": ""}],
    "content_sha256": "9f2c4e0b9f2c4e0b9f2c4e0b9f2c4e0b9f2c4e0b9f2c4e0b9f2c4e0b9f2c4e0b",
    "pdf_url": "https://portal.example/api/v1/own-studies/0b6b3cf2-8a39-4f4e-8f1f-0f6f2e9c1a11/report/report.pdf",
    "overlay_url": "https://portal.example/api/v1/own-studies/0b6b3cf2-8a39-4f4e-8f1f-0f6f2e9c1a11/report/overlay.png",
}


class PlaceSerializer(serializers.Serializer):
    """A place that the computer marked in the picture."""

    number = serializers.IntegerField()
    size = serializers.CharField(source="size_text")


class SoftwareSerializer(serializers.Serializer):
    """What made the answer."""

    name = serializers.CharField()
    version = serializers.CharField()
    note = serializers.CharField(allow_blank=True)


class AutomaticReportSerializer(Linked):
    """What the software says about an upload, in plain words. No doctor has read it."""

    id = serializers.UUIDField()
    study_id = serializers.UUIDField()
    mark = serializers.SerializerMethodField(help_text="To be shown wherever anything of this is shown.")
    made_at = serializers.DateTimeField()
    study_date = serializers.DateField(source="content.study.study_date")
    places = serializers.SerializerMethodField(help_text="None is no promise that there is no disease.")
    explanation = serializers.SerializerMethodField()
    models = SoftwareSerializer(source="content.models", many=True)
    content_sha256 = serializers.CharField()
    pdf_url = serializers.SerializerMethodField()
    overlay_url = serializers.SerializerMethodField()

    def get_mark(self, report: AutomaticReport) -> str:
        """Return the words that go with every part of it."""
        return str(MARK)

    @extend_schema_field(PlaceSerializer(many=True))
    def get_places(self, report: AutomaticReport) -> Any:
        """Return what the computer marked."""
        places = [finding for part in report.content.analysed_slices for finding in part.findings]
        return PlaceSerializer(places, many=True).data

    @extend_schema_field(ExplanationSerializer())
    def get_explanation(self, report: AutomaticReport) -> Any:
        """Return what it means."""
        return ExplanationSerializer(explain(report.content)).data

    def get_pdf_url(self, report: AutomaticReport) -> str:
        """Return where the PDF is."""
        return self.address("automatic_pdf", study_id=report.study_id)

    def get_overlay_url(self, report: AutomaticReport) -> str:
        """Return where the picture with the marked places is."""
        return self.address("automatic_overlay", study_id=report.study_id)


class Automatic(ApiView):
    """The automatic report."""

    role = PATIENT

    @extend_schema(
        operation_id="own_studies_report",
        tags=TAGS,
        summary="What the software says about an upload, in plain words",
        description="404 before there is an answer.",
        responses=AutomaticReportSerializer,
        examples=[OpenApiExample("One place", value=EXAMPLE, response_only=True)],
    )
    def get(self, request: Request, study_id: uuid.UUID) -> Response:
        """Show the automatic report; it stays as it was first shown."""
        report = pages.own_report(self.user, study_id)
        AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=report)
        return Response(AutomaticReportSerializer(report, context={"request": request}).data)


class AutomaticPdf(ApiView):
    """The PDF of the automatic report."""

    role = PATIENT

    @extend_schema(
        operation_id="own_studies_report_pdf",
        tags=TAGS,
        summary="The automatic report as a PDF",
        description="Marked on every page as read by no doctor.",
        parameters=[IF_NONE_MATCH],
        responses=binary("application/pdf", "PDF, A4.") | {304: None},
    )
    def get(self, request: Request, study_id: uuid.UUID) -> HttpResponseBase:
        """Send the PDF, or 304 where the client holds it."""
        report = pages.own_report(self.user, study_id)
        etag = automatic_etag(report)
        if (held := not_modified(request, etag=etag)) is not None:
            return held
        try:
            response = pages.send_pdf(self.page_request, report)
        except PdfError as error:
            raise ProblemError(500, str(error)) from error
        response["ETag"] = etag
        return response


class AutomaticOverlay(ApiView):
    """The picture of the automatic report."""

    role = PATIENT

    @extend_schema(
        operation_id="own_studies_report_overlay",
        tags=TAGS,
        summary="The slice with the places that the software marked",
        responses=binary("image/png", "Colour PNG."),
    )
    def get(self, request: Request, study_id: uuid.UUID) -> HttpResponseBase:
        """Send the slice with what the software outlined, as the report names it."""
        return pages.automatic_overlay(self.page_request, study_id)


def automatic_etag(report: AutomaticReport) -> str:
    """Name the pages of the PDF: what was frozen, in which language. Weak, because it is printed anew each time."""
    digest = hashlib.sha256(f"{report.content_sha256}\n{get_language()}".encode()).hexdigest()
    return f'W/"{digest}"'
