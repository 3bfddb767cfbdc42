"""A patient's rights over a record: who has looked, whether it teaches the model, and asking a hospital to erase it."""

import uuid
from typing import Any

from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.problems import check, conflict, invalid
from accounts.api.serializers import Body
from accounts.api.views import PATIENT, ApiView, as_form, json_of
from accounts.models import AccessEvent
from portal.access_history import history_of
from portal.erasure_pages import WishForm
from portal.learning.teaching_page import TeachingForm
from studies.api.common import AFTER, listed, page_response
from studies.errors import ErasureError
from studies.models import ErasureRequest, Teaching

TAGS = ["own record"]


class LookSerializer(serializers.Serializer):
    """What one person did with one kind of thing on one day."""

    who = serializers.CharField()
    deed = serializers.CharField()
    thing = serializers.CharField()
    first_at = serializers.DateTimeField()
    last_at = serializers.DateTimeField()
    count = serializers.IntegerField()
    reason = serializers.CharField(allow_blank=True, help_text="Of an emergency access.")
    is_own = serializers.BooleanField()
    is_emergency = serializers.BooleanField()


class LooksSerializer(serializers.Serializer):
    """One page of looks."""

    results = LookSerializer(many=True)
    next = serializers.URLField(allow_null=True)


class ErasureSerializer(serializers.Serializer):
    """A request to erase a record, and what the hospital decided."""

    id = serializers.UUIDField()
    hospital = serializers.CharField(source="hospital.name")
    patient_id = serializers.UUIDField(allow_null=True, help_text="The record; empty once it is erased.")
    state = serializers.ChoiceField(choices=ErasureRequest.State.choices)
    requested_at = serializers.DateTimeField()
    message = serializers.CharField(allow_blank=True)
    decided_at = serializers.DateTimeField(allow_null=True)
    reason = serializers.CharField(allow_blank=True)
    studies_erased = serializers.IntegerField()
    studies_kept = serializers.IntegerField()
    kept_until = serializers.DateField(allow_null=True)


class ErasureBody(Body):
    """Which record of yours is to be erased."""

    patient = serializers.UUIDField(help_text="One of `records` of the address `my-record/`.")
    message = serializers.CharField(required=False, allow_blank=True, max_length=1000)


class RecordSerializer(serializers.Serializer):
    """A record that a hospital keeps about you."""

    id = serializers.UUIDField()
    hospital = serializers.CharField(source="hospital.name")


class TeachingSerializer(RecordSerializer):
    """A record, and your word on whether its pictures and corrections teach the model."""

    teaching = serializers.ChoiceField(choices=Teaching.choices, help_text="Empty: as the hospital decides.")
    teaches_model = serializers.BooleanField(
        source="hospital.teaches_model", help_text="Where false, nothing is used, whatever you said."
    )


class TeachingListSerializer(serializers.Serializer):
    """The records about you with your word on teaching."""

    records = TeachingSerializer(many=True)


class TeachingBody(Body):
    """Your word for one record."""

    teaching = serializers.ChoiceField(choices=Teaching.choices)


class OwnRecordsSerializer(serializers.Serializer):
    """The records about you."""

    records = RecordSerializer(many=True)


class OwnRecord(ApiView):
    """The records that hospitals keep about a patient."""

    role = PATIENT

    @extend_schema(
        operation_id="own_records", tags=TAGS, summary="Which hospitals keep a record", responses=OwnRecordsSerializer
    )
    def get(self, request: Request) -> Response:
        """List the patient's records at hospitals."""
        records = self.user.patient_records.at_hospitals()
        return Response({"records": RecordSerializer(records.order_by("created_at", "id"), many=True).data})


class OwnTeaching(ApiView):
    """A patient's word on teaching the model."""

    role = PATIENT

    @extend_schema(
        operation_id="own_teaching",
        tags=TAGS,
        summary="Whether your records teach the model",
        description=(
            "Slices and doctors' corrections, without name, dates and numbers. Pictures that you uploaded yourself are "
            "used only where this says `allowed`."
        ),
        responses=TeachingListSerializer,
    )
    def get(self, request: Request) -> Response:
        """List the patient's records at hospitals with the patient's word on each."""
        records = self.user.patient_records.at_hospitals()
        return Response({"records": TeachingSerializer(records.order_by("created_at", "id"), many=True).data})


class OwnTeachingChange(ApiView):
    """A patient's word for one record."""

    role = PATIENT

    @extend_schema(
        operation_id="own_teaching_change",
        tags=TAGS,
        summary="Allow or refuse that a record teaches the model",
        description="It holds from the next export on; what was learnt before stays in versions that exist already.",
        request=TeachingBody,
        examples=[OpenApiExample("A refusal", value={"teaching": "refused"}, request_only=True)],
        responses=TeachingSerializer,
    )
    def patch(self, request: Request, patient_id: uuid.UUID) -> Response:
        """Store the patient's word for one record."""
        own = self.user.patient_records.at_hospitals()
        record = get_object_or_404(own, id=patient_id)
        form = TeachingForm(as_form(json_of(request, TeachingBody)), instance=record)
        check(form)
        form.save()
        AccessEvent.record(request, action=AccessEvent.Action.CHANGED, target=record)
        return Response(TeachingSerializer(record).data)


class OwnHistory(ApiView):
    """Who has looked."""

    role = PATIENT

    @extend_schema(
        operation_id="own_history",
        tags=TAGS,
        summary="Who has looked at your record",
        parameters=[
            OpenApiParameter(
                "page",
                {"type": "integer", "minimum": 0, "maximum": 999_999_999},
                description="From 1; a page that there is not is the last.",
            )
        ],
        responses=LooksSerializer,
    )
    def get(self, request: Request) -> Response:
        """Show one page of what was done with the patient's records, newest first."""
        asked = request.GET.get("page", "1")
        if not (asked.isascii() and asked.isdecimal() and 1 <= len(asked) <= 9):
            raise invalid([("page", _("Please name the page by its number, from 1."))])
        page = history_of(self.user, page=asked)
        following = None
        if page.has_next():
            following = request.build_absolute_uri(f"{request.path}?page={page.next_page_number()}")
        return Response({"results": LookSerializer(page.object_list, many=True).data, "next": following})


class Erasures(ApiView):
    """Requests of erasure."""

    role = PATIENT

    @extend_schema(
        operation_id="erasures_list",
        tags=TAGS,
        summary="What you have asked to be erased, and what became of it",
        parameters=[AFTER],
        responses=listed("ErasurePage", ErasureSerializer),
    )
    def get(self, request: Request) -> Response:
        """List the patient's requests, newest first."""
        wishes = ErasureRequest.objects.made_by(self.user).select_related("hospital")
        return page_response(request, wishes, order=["-requested_at", "-id"], serializer=ErasureSerializer)

    @extend_schema(
        operation_id="erasures_ask",
        tags=TAGS,
        summary="Ask a hospital to erase your record",
        request=ErasureBody,
        responses={201: ErasureSerializer},
    )
    def post(self, request: Request) -> Response:
        """Ask; 409 while the hospital has not decided on an earlier request."""
        values: dict[str, Any] = json_of(request, ErasureBody)
        own = self.user.patient_records.at_hospitals()
        record = get_object_or_404(own, id=values.pop("patient"))
        form = WishForm(as_form(values))
        check(form)
        try:
            wish = ErasureRequest.ask(record, by=self.user, message=form.cleaned_data["message"])
        except ErasureError as error:
            raise conflict(error) from error
        return Response(ErasureSerializer(wish).data, status=201)


class ErasureWithdraw(ApiView):
    """The end of a request."""

    role = PATIENT

    @extend_schema(
        operation_id="erasures_withdraw",
        tags=TAGS,
        summary="Take a request back",
        request=None,
        responses=ErasureSerializer,
    )
    def post(self, request: Request, wish_id: uuid.UUID) -> Response:
        """Take back a request on which nobody has decided; 409 otherwise."""
        wish = get_object_or_404(ErasureRequest.objects.made_by(self.user).select_related("hospital"), id=wish_id)
        try:
            wish.withdraw(by=self.user)
        except ErasureError as error:
            raise conflict(error) from error
        return Response(ErasureSerializer(wish).data)
