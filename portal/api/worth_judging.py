"""Which of a doctor's studies a judgement would teach most."""

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.views import DOCTOR, ApiView
from portal.learning.worth_judging import Worth, most_worth
from studies.api.serializers import Linked, PatientSummarySerializer

EXAMPLE = {
    "teaches_model": True,
    "results": [
        {
            "study_id": "0b6b3cf2-8a39-4f4e-8f1f-0f6f2e9c1a11",
            "study_url": "https://portal.example/api/v1/studies/0b6b3cf2-8a39-4f4e-8f1f-0f6f2e9c1a11/",
            "study_date": "2026-03-09",
            "patient": {
                "id": "51f4a1de-6c41-4a7e-9a6f-53f7a2a0f0f2",
                "url": "https://portal.example/api/v1/patients/51f4a1de-6c41-4a7e-9a6f-53f7a2a0f0f2/",
                "record_number": "R-20417",
                "family_name": "Example",
                "given_name": "Erika",
                "birth_date": "1961-04-12",
            },
            "reason": "The slice is unlike those that doctors have judged here.",
        }
    ],
}


class WorthSerializer(Linked):
    """A study that nobody has judged, and why its judgement would teach."""

    study_id = serializers.UUIDField(source="study.pk")
    study_url = serializers.SerializerMethodField()
    study_date = serializers.DateField(source="study.study_date")
    patient = PatientSummarySerializer(source="study.patient")
    reason = serializers.CharField(help_text="A sentence; before your first impression it says only that.")

    def get_study_url(self, worth: Worth) -> str:
        """Return the study's address."""
        return self.address("study", study_id=worth.study.pk)


class WorthsSerializer(serializers.Serializer):
    """Studies worth judging."""

    teaches_model = serializers.BooleanField(help_text="Whether your hospital lets judgements teach the model.")
    results = WorthSerializer(many=True)


class WorthJudging(ApiView):
    """Studies whose judgement would teach most."""

    role = DOCTOR

    @extend_schema(
        operation_id="worth_judging",
        tags=["studies"],
        summary="Studies whose judgement would teach the model most",
        description="At most 30 of those that you may see, the most worth first. This is no order of urgency.",
        responses=WorthsSerializer,
        examples=[OpenApiExample("One study", value=EXAMPLE, response_only=True)],
    )
    def get(self, request: Request) -> Response:
        """List the doctor's studies that nobody has judged, the most worth first."""
        hospital = self.user.hospital
        results = WorthSerializer(most_worth(self.user), many=True, context={"request": request}).data
        return Response({"teaches_model": hospital is not None and hospital.teaches_model, "results": results})
