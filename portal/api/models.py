"""Versions of the model for programs: the list, what speaks for and against one, and changing which one answers.

Every administrator may look, who has the right may act; for everybody else there is nothing here. Versions are
registered at the command line, where their folder lies.
"""

import uuid
from collections.abc import Callable
from typing import Any

from django.core.exceptions import PermissionDenied
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.problems import conflict
from accounts.api.serializers import Body
from accounts.api.views import ADMINISTRATOR, ApiView, json_of
from accounts.audit import client_address
from accounts.models import Scope
from ml import registry
from ml.errors import MlError, PromotionRefusedError
from ml.models import Deployment, ModelVersion
from studies.api.common import AFTER, listed, page_response
from studies.models import ShadowAnswer

TAGS = ["models"]


class VersionSerializer(serializers.Serializer):
    """One registered version."""

    id = serializers.UUIDField()
    version = serializers.CharField()
    state = serializers.ChoiceField(choices=ModelVersion.State.values)
    challenge_share = serializers.FloatField(allow_null=True, help_text="Of 1; only of the challenger.")
    trained_at = serializers.DateTimeField(allow_null=True)
    registered_at = serializers.DateTimeField()
    note = serializers.CharField(allow_blank=True)
    figures = serializers.DictField(help_text="As in model.json: name → value, low, high, on.")


class ComparedSerializer(serializers.Serializer):
    """One leak-free figure beside the champion's."""

    name = serializers.CharField()
    champion = serializers.FloatField(allow_null=True)
    candidate = serializers.FloatField(allow_null=True)
    margin = serializers.FloatField(help_text="By how much the candidate may be worse.")
    objection = serializers.CharField(allow_blank=True, help_text="Why it speaks against a promotion.")


class OneVersionSerializer(VersionSerializer):
    """One version with its figures beside the champion's, and its answers in shadow."""

    compared = ComparedSerializer(many=True)
    shadow = serializers.DictField(
        allow_null=True, help_text="Agreement, latency and corrections of its answers in shadow; empty without any."
    )


class DeploymentSerializer(serializers.Serializer):
    """One change of what answers."""

    kind = serializers.ChoiceField(choices=Deployment.Kind.values)
    version = serializers.CharField(source="version.version")
    replaced = serializers.CharField(source="replaced.version", allow_null=True, default=None)
    who = serializers.CharField()
    at = serializers.DateTimeField()
    reason = serializers.CharField(allow_blank=True)
    is_forced = serializers.BooleanField()
    objections = serializers.ListField(child=serializers.CharField())
    challenge_share = serializers.FloatField(allow_null=True)


class PromotionBody(Body):
    """Why, and whether the figures are overruled."""

    reason = serializers.CharField(max_length=500, required=False, allow_blank=True)
    force = serializers.BooleanField(required=False, help_text="Overrule the figures; needs a reason.")


class ReasonBody(Body):
    """Why."""

    reason = serializers.CharField(max_length=500, required=False, allow_blank=True)


class ChallengeBody(Body):
    """How many of the analyses the challenger repeats."""

    share = serializers.FloatField(help_text="More than 0, at most 1.")


DEPLOYMENT = OpenApiExample(
    "A promotion",
    response_only=True,
    value={
        "kind": "promoted",
        "version": "2026.11.28.0300",
        "replaced": "2026.11.24.0210",
        "who": "Robin Hale",
        "at": "2026-11-28T09:12:44Z",
        "reason": "More slices without a tumour.",
        "is_forced": False,
        "objections": [],
        "challenge_share": None,
    },
)


class Versions(ApiView):
    """All versions."""

    role = ADMINISTRATOR

    @extend_schema(
        operation_id="models_list",
        tags=TAGS,
        summary="The versions of the model, newest first",
        parameters=[AFTER],
        responses=listed("ModelPage", VersionSerializer),
    )
    def get(self, request: Request) -> Response:
        """List what is registered."""
        rows = ModelVersion.objects.all()
        return page_response(request, rows, order=["-registered_at", "-id"], serializer=VersionSerializer)


class OneVersion(ApiView):
    """One version."""

    role = ADMINISTRATOR

    @extend_schema(
        operation_id="models_read",
        tags=TAGS,
        summary="One version, beside the champion",
        responses=OneVersionSerializer,
    )
    def get(self, request: Request, version_id: uuid.UUID) -> Response:
        """Tell a version's figures, what speaks against its promotion, and how it answered in shadow."""
        row = get_object_or_404(ModelVersion, id=version_id)
        shadow = ShadowAnswer.objects.of_version(row.version)
        body = dict(VersionSerializer(row).data)
        body["compared"] = ComparedSerializer(registry.compared_with_champion(row), many=True).data
        body["shadow"] = shadow.compare().to_json() if shadow.exists() else None
        return Response(body)


class Deployments(ApiView):
    """What was changed."""

    role = ADMINISTRATOR

    @extend_schema(
        operation_id="models_history",
        tags=TAGS,
        summary="Who changed the model in use, when and why",
        parameters=[AFTER],
        responses=listed("DeploymentPage", DeploymentSerializer),
    )
    def get(self, request: Request) -> Response:
        """List the changes, newest first."""
        rows = Deployment.objects.select_related("version", "replaced", "by")
        return page_response(request, rows, order=["-at", "-id"], serializer=DeploymentSerializer)


class Acting(ApiView):
    """An address that changes which model answers."""

    role = ADMINISTRATOR
    scopes = {"POST": Scope.MODELS}

    def check_permissions(self, request: Request) -> None:
        """Refuse administrators who may look only."""
        super().check_permissions(request)
        if not registry.may_promote(request.user):
            raise PermissionDenied(_("You may not change which model answers."))

    def act(self, what: Callable[..., Deployment], **values: Any) -> Response:
        """Do it for whoever asks. Raises what the handler turns into 409."""
        try:
            done = what(by=self.user, address=client_address(self.page_request), **values)
        except PromotionRefusedError as error:
            raise conflict(error, objections=list(error.objections)) from error
        except MlError as error:
            raise conflict(error) from error
        return Response(DeploymentSerializer(done).data)


class Promotion(Acting):
    """Let a version answer."""

    @extend_schema(
        operation_id="models_promote",
        tags=TAGS,
        summary="Let a version answer from the next slice on",
        description=(
            "Refused (409, with `objections`) where its leak-free figures are missing or worse than the champion's by "
            "more than the margin, unless forced with a reason."
        ),
        request=PromotionBody,
        responses=DeploymentSerializer,
        examples=[DEPLOYMENT],
    )
    def post(self, request: Request, version_id: uuid.UUID) -> Response:
        """Promote."""
        row = get_object_or_404(ModelVersion, id=version_id)
        values = json_of(request, PromotionBody)
        return self.act(
            registry.promote,
            version=row.version,
            reason=values.get("reason", ""),
            is_forced=values.get("force", False),
        )


class Challenge(Acting):
    """Let a version answer in shadow."""

    @extend_schema(
        operation_id="models_challenge",
        tags=TAGS,
        summary="Let a version repeat a share of the analyses in shadow",
        request=ChallengeBody,
        responses=DeploymentSerializer,
    )
    def post(self, request: Request, version_id: uuid.UUID) -> Response:
        """Start a challenge, or change its share."""
        row = get_object_or_404(ModelVersion, id=version_id)
        return self.act(registry.challenge, version=row.version, share=json_of(request, ChallengeBody)["share"])


class ChallengeEnd(Acting):
    """End the challenge."""

    @extend_schema(
        operation_id="models_challenge_end",
        tags=TAGS,
        summary="End the challenge; its answers are kept",
        request=None,
        responses=DeploymentSerializer,
    )
    def post(self, request: Request) -> Response:
        """End it."""
        return self.act(registry.stop_challenge)


class Rollback(Acting):
    """Go back."""

    @extend_schema(
        operation_id="models_rollback",
        tags=TAGS,
        summary="Let the version answer again that answered before",
        description="Twice goes back two steps. 409 where there is nothing to go back to.",
        request=ReasonBody,
        responses=DeploymentSerializer,
    )
    def post(self, request: Request) -> Response:
        """Roll back."""
        return self.act(registry.rollback, reason=json_of(request, ReasonBody).get("reason", ""))
