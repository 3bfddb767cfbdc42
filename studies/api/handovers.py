"""What patients have handed to a hospital, for its doctors: list, one, taking it over, declining it."""

import uuid

from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.problems import check, conflict
from accounts.api.serializers import Body
from accounts.api.views import DOCTOR, ApiView, as_form, json_of
from accounts.models import AccessEvent
from studies.access import seen_handover
from studies.api.common import AFTER, link, listed, page_response, visible_study
from studies.api.serializers import Linked, StudySerializer
from studies.api.studies import study_json
from studies.errors import HandoverError, RecordNumberTakenError
from studies.handovers import proposed_record_number, record_at_hospital, take_over
from studies.models import Handover
from studies.own_forms import DeclineForm, TakeOverForm
from studies.views import handovers as pages

TAGS = ["hand-overs"]


class HandoverSerializer(Linked):
    """A request of a patient, and no picture: that is for whoever takes it over."""

    id = serializers.UUIDField()
    url = serializers.SerializerMethodField()
    family_name = serializers.CharField(source="study.patient.family_name")
    given_name = serializers.CharField(source="study.patient.given_name")
    birth_date = serializers.DateField(source="study.patient.birth_date")
    study_date = serializers.DateField(source="study.study_date")
    clinical_question = serializers.CharField(source="study.clinical_question", allow_blank=True)
    requested_at = serializers.DateTimeField()

    def get_url(self, handover: Handover) -> str:
        """Return the request's address."""
        return self.address("hand_over", handover_id=handover.pk)


class OneHandoverSerializer(HandoverSerializer):
    """A request with what taking it over needs."""

    record_number = serializers.SerializerMethodField(
        help_text="Under which your hospital keeps this log-in already; empty where it does not."
    )
    proposed_record_number = serializers.SerializerMethodField(
        help_text="For a new record, where your hospital does not number otherwise; empty where there is one."
    )

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_record_number(self, handover: Handover) -> str | None:
        """Return the number of the record to which the study will go."""
        record = record_at_hospital(handover)
        return record.record_number if record is not None else None

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_proposed_record_number(self, handover: Handover) -> str | None:
        """Return a number that no record has."""
        return proposed_record_number(handover) if record_at_hospital(handover) is None else None


class TakeBody(Body):
    """Under which number your hospital keeps the patient; not needed where `record_number` of the request is there."""

    record_number = serializers.CharField(required=False, max_length=40)


class DeclineBody(Body):
    """Why your hospital does not take it over."""

    reason = serializers.CharField(max_length=500, help_text="The patient reads it.")


class DeclinedSerializer(serializers.Serializer):
    """A request that was declined."""

    id = serializers.UUIDField()
    state = serializers.ChoiceField(choices=Handover.State.choices)
    reason = serializers.CharField()
    decided_at = serializers.DateTimeField()


class Handovers(ApiView):
    """What waits for a doctor of the hospital."""

    role = DOCTOR

    @extend_schema(
        operation_id="hand_overs_list",
        tags=TAGS,
        summary="What waits for a doctor of your hospital, the oldest first",
        parameters=[AFTER],
        responses=listed("HandoverPage", HandoverSerializer),
    )
    def get(self, request: Request) -> Response:
        """List the requests on which nobody has decided."""
        waiting = Handover.objects.waiting_for(self.user).select_related("study__patient")
        return page_response(request, waiting, order=["requested_at", "id"], serializer=HandoverSerializer)


class OneHandover(ApiView):
    """One request."""

    role = DOCTOR

    @extend_schema(
        operation_id="hand_overs_read",
        tags=TAGS,
        summary="One request of a patient",
        description="409 once somebody has decided; the sentence says who.",
        responses=OneHandoverSerializer,
    )
    def get(self, request: Request, handover_id: uuid.UUID) -> Response:
        """Show a request that waits."""
        handover = _waiting(self, handover_id)
        AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=handover)
        return Response(OneHandoverSerializer(handover, context={"request": request}).data)


class HandoverTake(ApiView):
    """Taking over."""

    role = DOCTOR

    @extend_schema(
        operation_id="hand_overs_take",
        tags=TAGS,
        summary="Take a study over",
        description=(
            "It becomes a study of your hospital, granted to you, in the record that the patient's log-in has there, "
            "or in a new one. The patient is told. Of two doctors the second gets 409, and nothing is done twice."
        ),
        request=TakeBody,
        examples=[
            OpenApiExample("A new record", value={"record_number": "R-20417"}, request_only=True),
            OpenApiExample("A record that is there", value={}, request_only=True),
        ],
        responses=StudySerializer,
    )
    def post(self, request: Request, handover_id: uuid.UUID) -> Response:
        """Take the study over."""
        handover = _waiting(self, handover_id)
        values = as_form(json_of(request, TakeBody))
        form = TakeOverForm(values, has_record=record_at_hospital(handover) is not None)
        check(form)
        try:
            study = take_over(handover, by=self.user, record_number=form.cleaned_data.get("record_number", ""))
        except (RecordNumberTakenError, HandoverError) as error:
            raise conflict(error) from error
        AccessEvent.record(request, action=AccessEvent.Action.CLAIMED, target=study)
        pages.tell_patient(self.page_request, handover)
        headers = {"Location": link(request, "study", study_id=study.pk)}
        taken = visible_study(self.user, study.pk)
        return Response(study_json(request, taken, doctor=self.user), headers=headers)


class HandoverDecline(ApiView):
    """Declining."""

    role = DOCTOR

    @extend_schema(
        operation_id="hand_overs_decline",
        tags=TAGS,
        summary="Decline a request",
        request=DeclineBody,
        examples=[
            OpenApiExample("A reason", value={"reason": "Please bring us the whole examination."}, request_only=True)
        ],
        responses=DeclinedSerializer,
    )
    def post(self, request: Request, handover_id: uuid.UUID) -> Response:
        """Turn a request down with a reason that the patient reads; 409 once somebody has decided."""
        handover = seen_handover(self.user, handover_id)
        form = DeclineForm(as_form(json_of(request, DeclineBody)))
        check(form)
        try:
            handover.decline(by=self.user, reason=form.cleaned_data["reason"])
        except HandoverError as error:
            raise conflict(error) from error
        AccessEvent.record(request, action=AccessEvent.Action.CHANGED, target=handover)
        pages.tell_patient(self.page_request, handover)
        return Response(DeclinedSerializer(handover).data)


def _waiting(view: ApiView, handover_id: uuid.UUID) -> Handover:
    """Return a request that waits. Raises a problem once somebody has decided on it: then it is no more to be read."""
    handover = seen_handover(view.user, handover_id)
    if not handover.is_waiting:
        raise conflict(handover.too_late_sentence(reader=view.user))
    return handover
