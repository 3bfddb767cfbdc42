"""Whose record it is: a patient claims one, a doctor invites a patient to."""

import uuid

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.problems import ProblemError, check, conflict, invalid
from accounts.api.serializers import Body
from accounts.api.views import DOCTOR, PATIENT, ApiView, as_form, json_of
from accounts.models import AccessEvent
from studies import claims
from studies.access import changeable_patient
from studies.errors import ClaimLockedError, InvitationError
from studies.forms import ClaimForm
from studies.views import claims as pages


class ClaimBody(Body):
    """What a person must know to claim the record that a hospital keeps about them."""

    record_number = serializers.CharField(max_length=40, help_text="As on the hospital's letter.")
    birth_date = serializers.DateField()
    invitation = serializers.CharField(
        required=False,
        max_length=200,
        help_text="What stands last in the address of the mailed link; else your confirmed e-mail address counts.",
    )


class ClaimedSerializer(serializers.Serializer):
    """The record that is yours."""

    id = serializers.UUIDField()
    hospital = serializers.CharField(source="hospital.name")


class InvitationSerializer(serializers.Serializer):
    """An invitation. The link that it stands for is in the mail only."""

    email = serializers.EmailField()
    expires_at = serializers.DateTimeField()


class RecordClaim(ApiView):
    """A patient's way to a record."""

    role = PATIENT

    @extend_schema(
        operation_id="own_record_claim",
        tags=["own record"],
        summary="Claim the record that a hospital keeps about you",
        description=(
            "With number and date of birth, and either an e-mail address of yours that is confirmed and that the "
            "hospital keeps, or the invitation that it mailed. Whatever is wrong, the answer is the same; 5 wrong "
            "guesses, on pages or here, lock you out for an hour (429). 410 for an invitation that opens nothing."
        ),
        request=ClaimBody,
        examples=[
            OpenApiExample(
                "By e-mail address", value={"record_number": "R-20417", "birth_date": "1961-04-12"}, request_only=True
            )
        ],
        responses=ClaimedSerializer,
    )
    def post(self, request: Request) -> Response:
        """Tie the record to the person if everything matches."""
        values = json_of(request, ClaimBody)
        token = values.pop("invitation", "")
        form = ClaimForm(as_form(values))
        check(form)
        try:
            if token:
                patient = claims.claim_with_invitation(self.user, token=token, **form.cleaned_data)
            else:
                patient = claims.claim_record(self.user, **form.cleaned_data)
        except ClaimLockedError as error:
            raise ProblemError(429, str(error), headers={"Retry-After": str(error.wait_s)}) from error
        except InvitationError as error:
            raise ProblemError(410, str(error)) from error
        if patient is None:
            raise invalid([("", str(claims.NOT_THAT_INVITED if token else claims.NO_SUCH_RECORD))])
        AccessEvent.record(request, action=AccessEvent.Action.CLAIMED, target=patient)
        return Response(ClaimedSerializer(patient).data)


class PatientInvitation(ApiView):
    """A doctor's invitation of a patient."""

    role = DOCTOR

    @extend_schema(
        operation_id="patients_invite",
        tags=["patients"],
        summary="Mail a patient an invitation to claim the record",
        description=(
            "It works once, for 14 days; an older one stops working. 409 for a record without e-mail address, or one "
            "that its patient reads already."
        ),
        request=None,
        responses={201: InvitationSerializer},
    )
    def post(self, request: Request, patient_id: uuid.UUID) -> Response:
        """Mail the invitation to the address that the record has."""
        patient = changeable_patient(self.user, patient_id)
        try:
            invitation = pages.mail_invitation(self.page_request, patient)
        except InvitationError as error:
            raise conflict(error) from error
        return Response(InvitationSerializer(invitation).data, status=201)
