"""Opening a record in an emergency: for a person who is logged in, never for a token."""

from allauth.core import ratelimit
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.problems import ProblemError, check, invalid
from accounts.api.serializers import Body
from accounts.api.views import DOCTOR, ApiView, as_form, json_of
from accounts.limits import too_many_tries, wait_for
from studies.api.serializers import PatientSerializer
from studies.emergency import NO_SUCH_RECORD, open_in_emergency
from studies.forms import EmergencyForm


class EmergencyBody(Body):
    """Which record is needed, and why."""

    record_number = serializers.CharField(max_length=40, help_text="As on the wristband or the referral.")
    birth_date = serializers.DateField()
    reason = serializers.CharField(
        max_length=500, help_text="A sentence. The patient and your administrators read it: no medical details."
    )


class OpenedSerializer(serializers.Serializer):
    """The record that is open."""

    patient = PatientSerializer()
    until = serializers.DateTimeField(allow_null=True, help_text="Empty where you may read it anyway.")


class EmergencyAccess(ApiView):
    """Break-glass."""

    role = DOCTOR
    is_for_people = True

    @extend_schema(
        operation_id="emergency_access",
        tags=["patients"],
        summary="Open a record of your hospital in an emergency",
        description=(
            "For the session of a person who is logged in; a token gets 403. It is on record, and the patient and "
            "your administrators are mailed. Ten tries an hour."
        ),
        auth=[{"session": []}],  # type: ignore[list-item] # its hint is wrong: this stands in the document as it is
        request=EmergencyBody,
        examples=[
            OpenApiExample(
                "In the emergency room",
                value={
                    "record_number": "R-20417",
                    "birth_date": "1961-04-12",
                    "reason": "Unconscious in the emergency room, nobody of the ward can be reached.",
                },
                request_only=True,
            )
        ],
        responses=OpenedSerializer,
    )
    def post(self, request: Request) -> Response:
        """Open the record for a while."""
        form = EmergencyForm(as_form(json_of(request, EmergencyBody)))
        check(form)
        if not ratelimit.consume(self.page_request, action="emergency"):
            wait = wait_for(self.page_request, action="emergency", keys=[])
            raise ProblemError(429, str(too_many_tries(wait)), headers={"Retry-After": str(max(1, wait.seconds))})
        opening = open_in_emergency(self.page_request, doctor=self.user, **form.cleaned_data)
        if opening is None:
            raise invalid([("", str(NO_SUCH_RECORD))])
        patient = PatientSerializer(opening.patient, context={"request": request}).data
        return Response({"patient": patient, "until": opening.until})
