"""Patients: list, new, one, corrected."""

import uuid

from django.core.exceptions import PermissionDenied
from django.forms.models import model_to_dict
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.problems import check, conflict
from accounts.api.views import DOCTOR, ApiView, as_form, json_of
from accounts.models import AccessEvent
from studies.access import changeable_patient, visible_patient
from studies.api.common import AFTER, link, listed, page_response
from studies.api.serializers import (
    PatientBody,
    PatientChangeBody,
    PatientSerializer,
    PatientSummarySerializer,
)
from studies.errors import RecordNumberTakenError
from studies.forms import PatientChangeForm, PatientFilterForm, PatientForm
from studies.intake import create_patient
from studies.models import Patient

TAGS = ["patients"]
EXAMPLE = OpenApiExample(
    "A new patient",
    value={
        "record_number": "R-20417",
        "family_name": "Example",
        "given_name": "Erika",
        "birth_date": "1961-04-12",
        "email": "erika@example.org",
    },
    request_only=True,
)


class Patients(ApiView):
    """The doctor's patients."""

    role = DOCTOR

    @extend_schema(
        operation_id="patients_list",
        tags=TAGS,
        summary="Patients whom you may see, by name",
        parameters=[OpenApiParameter("q", str, description="Words of name or record number."), AFTER],
        responses=listed("PatientPage", PatientSummarySerializer),
    )
    def get(self, request: Request) -> Response:
        """List the patients whom the doctor may see."""
        form = PatientFilterForm(request.GET)
        check(form)
        found = Patient.objects.visible_to(self.user).matching(form.search)
        return page_response(
            request, found, order=["family_name", "given_name", "id"], serializer=PatientSummarySerializer
        )

    @extend_schema(
        operation_id="patients_create",
        tags=TAGS,
        summary="Make a record",
        request=PatientBody,
        examples=[EXAMPLE],
        responses={201: PatientSerializer},
    )
    def post(self, request: Request) -> Response:
        """Make a record without a study."""
        form = PatientForm(as_form(json_of(request, PatientBody)), doctor=self.user)
        check(form)
        try:
            patient = create_patient(form.new_patient, doctor=self.user)
        except RecordNumberTakenError as error:
            raise conflict(error) from error
        AccessEvent.record(request, action=AccessEvent.Action.CREATED, target=patient)
        headers = {"Location": link(request, "patient", patient_id=patient.pk)}
        body = PatientSerializer(patient, context={"request": request}).data
        return Response(body, status=201, headers=headers)


class OnePatient(ApiView):
    """One record."""

    role = DOCTOR

    @extend_schema(operation_id="patients_read", tags=TAGS, summary="One record", responses=PatientSerializer)
    def get(self, request: Request, patient_id: uuid.UUID) -> Response:
        """Show a record."""
        patient = visible_patient(self.user, patient_id)
        AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=patient)
        return Response(PatientSerializer(patient, context={"request": request}).data)

    @extend_schema(
        operation_id="patients_change",
        tags=TAGS,
        summary="Correct a record",
        description="`teaching` of a patient who has a log-in is theirs to change: 403.",
        request=PatientChangeBody,
        examples=[OpenApiExample("A patient who told you", value={"teaching": "refused"}, request_only=True)],
        responses=PatientSerializer,
    )
    def patch(self, request: Request, patient_id: uuid.UUID) -> Response:
        """Correct a record; what is not named stays as it is."""
        patient = changeable_patient(self.user, patient_id)
        wanted = json_of(request, PatientChangeBody)
        stored = model_to_dict(patient, fields=PatientChangeForm.Meta.fields)
        form = PatientChangeForm(as_form(stored | wanted), instance=patient, doctor=self.user)
        if not set(wanted) <= set(form.fields):
            raise PermissionDenied(_("Whether this record teaches the model is said by the patient, who has a log-in."))
        check(form)
        form.save()
        AccessEvent.record(request, action=AccessEvent.Action.CHANGED, target=patient)
        return Response(PatientSerializer(patient, context={"request": request}).data)
