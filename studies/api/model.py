"""The serving model, and asking it about one slice while one waits."""

from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.problems import ProblemError, invalid
from accounts.api.views import DOCTOR, ApiView, sent_form
from accounts.audit import client_address
from accounts.models import AccessEvent, Scope
from ml.errors import MlError, ModelFileError
from ml.registry import serving_directory
from ml.runtime import read_card
from studies.access import require_revealed
from studies.api.studies import require_whole
from studies.classifying import BusyError, Classified, classify
from studies.intake import Upload
from studies.model_card import describe_model
from studies.models import Image
from studies.models.study import CLASS_LABELS
from studies.sentences import in_the_readers_language
from studies.tasks import NO_MODEL

TAGS = ["model"]
NOT_STORED = "decision support, not a diagnosis; nothing of the slice is stored"


class FigureSerializer(serializers.Serializer):
    """One measured figure of a model."""

    name = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment] # a field of that name
    value = serializers.FloatField()
    low = serializers.FloatField(allow_null=True, help_text="Lower end of the 95 % interval.")
    high = serializers.FloatField(allow_null=True)
    on = serializers.CharField(allow_blank=True, help_text="What it was measured on.")


class ModelSerializer(serializers.Serializer):
    """The model that answers at this moment."""

    name = serializers.CharField()
    version = serializers.CharField()
    classes = serializers.ListField(child=serializers.CharField())
    figures = FigureSerializer(many=True)
    note = serializers.CharField(allow_blank=True, help_text="Why there are no figures.")


class ClassifiedFindingSerializer(serializers.Serializer):
    """One outlined finding; box and axes in pixels of the file."""

    box = serializers.ListField(child=serializers.IntegerField(), help_text="x, y, width, height")
    malignancy = serializers.FloatField(help_text="0..1")
    area_px = serializers.IntegerField()
    long_axis_px = serializers.FloatField()
    short_axis_px = serializers.FloatField()
    area_mm2 = serializers.FloatField(allow_null=True)
    long_axis_mm = serializers.FloatField(allow_null=True)
    short_axis_mm = serializers.FloatField(allow_null=True)


class ClassifiedSerializer(serializers.Serializer):
    """What the model says of one slice that is not stored."""

    model_version = serializers.CharField()
    width = serializers.IntegerField()
    height = serializers.IntegerField()
    top_class = serializers.ChoiceField(choices=list(CLASS_LABELS))
    probabilities = serializers.DictField(child=serializers.FloatField())
    malignant_probability = serializers.FloatField()
    malignant_basis = serializers.CharField()
    findings = ClassifiedFindingSerializer(many=True)
    duration_ms = serializers.IntegerField()
    notice = serializers.CharField()


class SliceBody(serializers.Serializer):
    """One slice, as multipart/form-data."""

    slice = serializers.FileField(help_text="PNG, JPEG or DICOM.")


class Model(ApiView):
    """The model that answers."""

    @extend_schema(
        operation_id="model_read", tags=TAGS, summary="Version and figures of the model", responses=ModelSerializer
    )
    def get(self, request: Request) -> Response:
        """Tell which model answers at this moment, and how good it was measured to be."""
        try:
            card = read_card(serving_directory())
        except ModelFileError as error:
            raise ProblemError(503, in_the_readers_language(NO_MODEL)) from error
        described = describe_model(str(card["version"]))
        return Response(
            {
                "name": described.name,
                "version": described.version,
                "classes": list(card["classes"]),
                "figures": FigureSerializer(described.figures, many=True).data,
                "note": described.note,
            }
        )


class Classify(ApiView):
    """One slice, answered at once."""

    role = DOCTOR
    scopes = {"POST": Scope.CLASSIFY}

    @extend_schema(
        operation_id="classify",
        tags=TAGS,
        summary="Ask the model about one slice, without storing it",
        description=(
            "Answers while you wait. Nothing is stored but the fact that you asked. While the process is busy with "
            "another slice the answer is 503 with `Retry-After`. A slice of a study whose answer is still hidden from "
            "you is refused (403): please note your first impression first."
        ),
        request={"multipart/form-data": SliceBody},
        responses=ClassifiedSerializer,
        examples=[
            OpenApiExample(
                "An answer",
                response_only=True,
                value={
                    "model_version": "starter-3",
                    "width": 512,
                    "height": 512,
                    "top_class": "adenocarcinoma",
                    "probabilities": {
                        "adenocarcinoma": 0.71,
                        "large_cell_carcinoma": 0.12,
                        "normal": 0.05,
                        "squamous_cell_carcinoma": 0.12,
                    },
                    "malignant_probability": 0.885,
                    "malignant_basis": "The mean of 0.95, the cancer classes together, and 0.82, the malignancy of the "
                    "one outlined finding.",
                    "findings": [
                        {
                            "box": [211, 180, 24, 22],
                            "malignancy": 0.82,
                            "area_px": 402,
                            "long_axis_px": 25.1,
                            "short_axis_px": 20.4,
                            "area_mm2": 196.9,
                            "long_axis_mm": 17.6,
                            "short_axis_mm": 14.3,
                        }
                    ],
                    "duration_ms": 210,
                    "notice": NOT_STORED,
                },
            )
        ],
    )
    def post(self, request: Request) -> Response:
        """Classify and outline one slice."""
        _fields, files = sent_form(self.page_request)
        require_whole(self.page_request)
        chosen = files.getlist("slice")
        if len(chosen) != 1:
            raise invalid([("slice", _("Please send exactly one file in the field “slice”."))])
        upload = Upload(content=chosen[0].read(), name=chosen[0].name or "")
        try:
            found = classify(upload, is_allowed=self._require_revealed)
        except BusyError as error:
            raise ProblemError(503, str(error), kind="busy", headers={"Retry-After": str(error.wait_s)}) from error
        except ModelFileError as error:
            raise ProblemError(503, in_the_readers_language(NO_MODEL)) from error
        except MlError as error:
            raise invalid([("slice", in_the_readers_language(str(error)))]) from error
        AccessEvent.note_of(
            action=AccessEvent.Action.VIEWED,
            target=self.user,
            actor=self.user,
            address=client_address(self.page_request),
            note=f"classified by {found.result.model_version}, without storing it: slice {found.sha256}",
        )
        return Response(_json(found))

    def _require_revealed(self, sha256: str) -> None:
        """Raise ``PermissionDenied`` for a slice of a study whose answer is still hidden from the doctor."""
        same = Image.objects.visible_to(self.user).filter(sha256=sha256).select_related("study__patient__hospital")
        for image in same:
            require_revealed(image.study, to=self.user)


def _json(found: Classified) -> dict[str, Any]:
    result = found.result
    return {
        "model_version": result.model_version,
        "width": result.width,
        "height": result.height,
        "top_class": result.top_class,
        "probabilities": result.probabilities,
        "malignant_probability": result.malignant_probability,
        "malignant_basis": in_the_readers_language(result.malignant_basis),
        "findings": ClassifiedFindingSerializer(result.findings, many=True).data,
        "duration_ms": result.duration_ms,
        "notice": NOT_STORED,
    }
