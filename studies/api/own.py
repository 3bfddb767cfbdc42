"""A patient's own uploads: what is agreed to, new, list, one, picture, again, to a hospital and back, deleted."""

import uuid
from typing import Any

from django.http import HttpResponseBase
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api import idempotency
from accounts.api.problems import check, conflict, invalid
from accounts.api.serializers import Body
from accounts.api.views import PATIENT, ApiView, as_form, json_of
from accounts.models import AccessEvent, Scope
from studies.access import own_study
from studies.api.common import AFTER, binary, listed, page_response
from studies.api.serializers import STUDY_STATES, Linked
from studies.api.studies import take_in_once
from studies.consent import CURRENT, wording
from studies.errors import HandoverError, IntakeError, InvalidTransitionError, OwnStudyError, QuotaError
from studies.models import Handover, Study
from studies.models.handover import hospitals_with_doctors
from studies.own import OwnUpload, submit_own_slice
from studies.own_forms import HandoverForm, OwnSliceForm
from studies.sentences import in_the_readers_language
from studies.views import own as pages

TAGS = ["own uploads"]
EXAMPLE = {
    "id": "0b6b3cf2-8a39-4f4e-8f1f-0f6f2e9c1a11",
    "url": "https://portal.example/api/v1/own-studies/0b6b3cf2-8a39-4f4e-8f1f-0f6f2e9c1a11/",
    "study_date": "2026-02-02",
    "received_at": "2026-03-09T08:12:44Z",
    "clinical_question": "What is the spot on the left?",
    "is_own": True,
    "state": "succeeded",
    "is_finished": True,
    "error": "",
    "consent": {"version": "2026-11", "given_at": "2026-03-09T08:12:44Z"},
    "hand_over": None,
    "picture_url": "https://portal.example/api/v1/own-studies/0b6b3cf2-8a39-4f4e-8f1f-0f6f2e9c1a11/slice.png",
    "report_url": "https://portal.example/api/v1/own-studies/0b6b3cf2-8a39-4f4e-8f1f-0f6f2e9c1a11/report/",
}


class WordingSerializer(serializers.Serializer):
    """What is agreed to with an upload."""

    version = serializers.CharField(help_text="Name it in `consent_version`.")
    wording = serializers.ListField(child=serializers.CharField(), help_text="For the person whose picture it is.")


class OwnUploadBody(serializers.Serializer):
    """One slice of your own, as multipart/form-data."""

    consent = serializers.ChoiceField(choices=["true"], help_text="The person has read the wording and agrees.")
    consent_version = serializers.CharField(help_text="Which wording: `version` of `own-studies/consent/`.")
    birth_date = serializers.DateField(help_text="Yours. Only adults can upload.")
    study_date = serializers.DateField(help_text="When the CT was taken.")
    clinical_question = serializers.CharField(required=False, max_length=2000)
    slice = serializers.FileField(help_text="PNG, JPEG or DICOM; one.")


class OwnStudySummarySerializer(Linked):
    """An upload in few words."""

    id = serializers.UUIDField()
    url = serializers.SerializerMethodField()
    study_date = serializers.DateField()
    received_at = serializers.DateTimeField(source="created_at")
    state = serializers.ChoiceField(choices=STUDY_STATES)
    hospital = serializers.CharField(
        source="patient.hospital.name", default=None, allow_null=True, help_text="Who has it; empty while only you do."
    )

    def get_url(self, study: Study) -> str:
        """Return the upload's address."""
        return self.address("own_study", study_id=study.pk)


class GivenConsentSerializer(serializers.Serializer):
    """What you agreed to, and when."""

    version = serializers.CharField()
    given_at = serializers.DateTimeField()


class OwnHandoverSerializer(serializers.Serializer):
    """The newest request to a hospital to take the upload over."""

    state = serializers.ChoiceField(choices=Handover.State.choices)
    hospital = serializers.CharField(source="hospital.name")
    requested_at = serializers.DateTimeField()
    decided_at = serializers.DateTimeField(allow_null=True)
    reason = serializers.CharField(allow_blank=True, help_text="Why a hospital did not take it over.")


class OwnStateSerializer(serializers.Serializer):
    """Where the analysis of an upload stands."""

    id = serializers.UUIDField(source="study.pk")
    state = serializers.SerializerMethodField()
    is_finished = serializers.SerializerMethodField(help_text="Whether nothing waits or is being analysed any more.")

    @extend_schema_field(serializers.ChoiceField(choices=STUDY_STATES))
    def get_state(self, upload: OwnUpload) -> str:
        """Return the state of the newest analysis; empty where there is none."""
        return upload.analysis.state if upload.analysis is not None else ""

    def get_is_finished(self, upload: OwnUpload) -> bool:
        """Return whether it makes no sense to wait."""
        return upload.analysis is None or not upload.analysis.is_active


class OwnStudySerializer(OwnStateSerializer, Linked):
    """An upload: the picture, where its analysis stands, and whether a hospital was asked."""

    url = serializers.SerializerMethodField()
    study_date = serializers.DateField(source="study.study_date")
    received_at = serializers.DateTimeField(source="study.created_at")
    clinical_question = serializers.CharField(source="study.clinical_question", allow_blank=True)
    is_own = serializers.BooleanField(source="study.is_own", help_text="False once a hospital has taken it over.")
    error = serializers.SerializerMethodField(help_text="Why there is no answer; empty otherwise.")
    consent = GivenConsentSerializer(allow_null=True)
    hand_over = OwnHandoverSerializer(source="handover", allow_null=True)
    picture_url = serializers.SerializerMethodField(help_text="Empty once the picture is erased.")
    report_url = serializers.SerializerMethodField(help_text="The automatic report; empty without an answer.")

    def get_url(self, upload: OwnUpload) -> str:
        """Return the upload's address."""
        return self.address("own_study", study_id=upload.study.pk)

    def get_error(self, upload: OwnUpload) -> str:
        """Return the sentence of a failure."""
        return in_the_readers_language(upload.analysis.error) if upload.analysis is not None else ""

    @extend_schema_field(serializers.URLField(allow_null=True))
    def get_picture_url(self, upload: OwnUpload) -> str | None:
        """Return where the picture is."""
        return self.address("own_picture", study_id=upload.study.pk) if upload.image is not None else None

    @extend_schema_field(serializers.URLField(allow_null=True))
    def get_report_url(self, upload: OwnUpload) -> str | None:
        """Return where the automatic report is."""
        return self.address("automatic_report", study_id=upload.study.pk) if upload.has_report else None


class HospitalSerializer(serializers.Serializer):
    """A hospital whose doctors work with this portal."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    department = serializers.CharField(allow_blank=True)


class HandoverBody(Body):
    """To which hospital the upload goes."""

    hospital = serializers.UUIDField(help_text="One of `hospitals/`.")


class OwnConsent(ApiView):
    """What is agreed to with an upload."""

    role = PATIENT

    @extend_schema(
        operation_id="own_consent",
        tags=TAGS,
        summary="What you agree to with an upload",
        description="Show it to the person whose picture it is; a consent to an older wording is none.",
        responses=WordingSerializer,
    )
    def get(self, request: Request) -> Response:
        """Show the wording in force."""
        return Response({"version": CURRENT, "wording": list(wording(CURRENT))})


class OwnStudies(ApiView):
    """What a patient uploads alone."""

    role = PATIENT
    scopes = {"POST": Scope.UPLOAD}

    @extend_schema(
        operation_id="own_studies_list",
        tags=TAGS,
        summary="Your uploads, newest first",
        parameters=[AFTER],
        responses=listed("OwnStudyPage", OwnStudySummarySerializer),
    )
    def get(self, request: Request) -> Response:
        """List what the patient uploaded."""
        studies = Study.objects.uploaded_by(self.user).select_related("patient__hospital")
        return page_response(request, studies, order=["-created_at", "-id"], serializer=OwnStudySummarySerializer)

    @extend_schema(
        operation_id="own_studies_upload",
        tags=TAGS,
        summary="Upload a slice of your own",
        description=(
            "With your consent to the wording in force. The file is checked and re-encoded; names in it are not kept. "
            "Its analysis is queued at once, and nobody but you sees any of it. 409 once you have uploaded as much as "
            "the portal takes from one person in 30 days."
        ),
        parameters=[idempotency.PARAMETER],
        request={"multipart/form-data": OwnUploadBody},
        responses={201: OwnStudySerializer},
        examples=[OpenApiExample("Analysed", value=EXAMPLE, response_only=True, status_codes=["201"])],
    )
    def post(self, request: Request) -> Response:
        """Take one slice in."""
        among = Study.objects.uploaded_by(self.user)
        study, headers = take_in_once(self, request, among=among, submit=self._submit, address="own_study")
        return _answer(request, study, status=201, headers=headers)

    def _submit(self, fields: Any, files: Any, study_id: uuid.UUID) -> Study:
        values = fields.copy()
        values["token"] = str(study_id)
        # A ticked box is one whatever it says. A program has to say that the person agrees, and nothing else is that.
        values["consent"] = "on" if fields.get("consent") == "true" else ""
        form = OwnSliceForm(values, files)
        check(form)
        try:
            return submit_own_slice(
                self.user,
                birth_date=form.cleaned_data["birth_date"],
                study_date=form.cleaned_data["study_date"],
                question=form.cleaned_data["clinical_question"],
                upload=form.upload,
                consent_version=form.cleaned_data["consent_version"],
                study_id=study_id,
            )
        except IntakeError as error:
            raise invalid(("slice", sentence) for sentence in error.sentences) from error
        except QuotaError as error:
            raise conflict(error) from error


class OneOwnStudy(ApiView):
    """One upload."""

    role = PATIENT

    @extend_schema(
        operation_id="own_studies_read",
        tags=TAGS,
        summary="One of your uploads",
        responses=OwnStudySerializer,
        examples=[OpenApiExample("Analysed", value=EXAMPLE, response_only=True)],
    )
    def get(self, request: Request, study_id: uuid.UUID) -> Response:
        """Show one upload: where the analysis stands, and the way to a doctor."""
        study = own_study(self.user, study_id)
        AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=study)
        return _answer(request, study)

    @extend_schema(
        operation_id="own_studies_delete",
        tags=TAGS,
        summary="Delete one of your uploads for good",
        description=(
            "Picture, answer and automatic report are erased at once; that you agreed to the upload stays. 409 while "
            "it is being analysed, while a hospital is asked to take it, and once a hospital has it."
        ),
        responses={204: None},
    )
    def delete(self, request: Request, study_id: uuid.UUID) -> Response:
        """Delete an upload with everything that came of it."""
        study = own_study(self.user, study_id)
        try:
            pages.delete_on_record(self.page_request, study)
        except OwnStudyError as error:
            raise conflict(error) from error
        return Response(status=204)


class OwnStudyState(ApiView):
    """How far the analysis of an upload is."""

    role = PATIENT

    @extend_schema(
        operation_id="own_studies_state",
        tags=TAGS,
        summary="How far the analysis is",
        description="For programs that wait: it holds no answer, and is not recorded as a look at the upload.",
        responses=OwnStateSerializer,
    )
    def get(self, request: Request, study_id: uuid.UUID) -> Response:
        """Tell where the analysis of an upload stands."""
        return Response(OwnStateSerializer(OwnUpload.of(own_study(self.user, study_id))).data)


class OwnPicture(ApiView):
    """The picture of an upload."""

    role = PATIENT

    @extend_schema(
        operation_id="own_studies_picture",
        tags=TAGS,
        summary="The slice that you uploaded",
        responses=binary("image/png", "Grey PNG."),
    )
    def get(self, request: Request, study_id: uuid.UUID) -> HttpResponseBase:
        """Send the slice as it is stored."""
        return pages.own_picture(self.page_request, study_id)


class OwnRetry(ApiView):
    """Another analysis of an upload."""

    role = PATIENT

    @extend_schema(
        operation_id="own_studies_retry",
        tags=TAGS,
        summary="Have an upload analysed again",
        description="After an analysis that failed; 409 where there is nothing to be tried again.",
        request=None,
        responses={201: OwnStudySerializer},
    )
    def post(self, request: Request, study_id: uuid.UUID) -> Response:
        """Queue another analysis after one that failed."""
        study = own_study(self.user, study_id)
        try:
            analysis = OwnUpload.of(study).analyse_again(by=self.user)
        except (OwnStudyError, InvalidTransitionError) as error:
            raise conflict(error) from error
        AccessEvent.record(request, action=AccessEvent.Action.CREATED, target=analysis)
        return _answer(request, study, status=201)


class OwnHandover(ApiView):
    """The way of an upload to a hospital."""

    role = PATIENT

    @extend_schema(
        operation_id="own_studies_hand_over",
        tags=TAGS,
        summary="Ask a hospital to take an upload over",
        description=(
            "Until a doctor takes it, the hospital's doctors see name, date of birth, date and question, but no "
            "picture. Afterwards it belongs to the hospital's records. 409 while another request waits."
        ),
        request=HandoverBody,
        examples=[
            OpenApiExample(
                "To this hospital", value={"hospital": "51f4a1de-6c41-4a7e-9a6f-53f7a2a0f0f2"}, request_only=True
            )
        ],
        responses={201: OwnStudySerializer},
    )
    def post(self, request: Request, study_id: uuid.UUID) -> Response:
        """Ask the doctors of a hospital."""
        study = own_study(self.user, study_id)
        form = HandoverForm(as_form(json_of(request, HandoverBody)))
        check(form)
        try:
            handover = Handover.request(study, hospital=form.cleaned_data["hospital"], by=self.user)
        except HandoverError as error:
            raise conflict(error) from error
        AccessEvent.record(request, action=AccessEvent.Action.SHARED, target=handover)
        return _answer(request, study, status=201)


class OwnWithdraw(ApiView):
    """The way back from a hospital that has not answered."""

    role = PATIENT

    @extend_schema(
        operation_id="own_studies_withdraw",
        tags=TAGS,
        summary="Withdraw the request to a hospital",
        request=None,
        responses=OwnStudySerializer,
    )
    def post(self, request: Request, study_id: uuid.UUID) -> Response:
        """Take back a request that no doctor has answered yet; 409 otherwise."""
        study = own_study(self.user, study_id)
        handover = Handover.objects.newest_of(study)
        if handover is None:
            raise conflict(_("No hospital was asked to take this over."))
        try:
            handover.withdraw(by=self.user)
        except HandoverError as error:
            raise conflict(error) from error
        AccessEvent.record(request, action=AccessEvent.Action.UNSHARED, target=handover)
        return _answer(request, study)


class Hospitals(ApiView):
    """Where an upload may go."""

    role = PATIENT

    @extend_schema(
        operation_id="hospitals_list",
        tags=TAGS,
        summary="Hospitals that may be asked to take an upload over",
        responses=HospitalSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """List the hospitals in which a doctor could take something over, by name."""
        return Response(HospitalSerializer(hospitals_with_doctors(), many=True).data)


def _answer(request: Request, study: Study, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = OwnStudySerializer(OwnUpload.of(study), context={"request": request}).data
    return Response(body, status=status, headers=headers)
