"""What belongs to no room: health, the description, its reader, and the answer to addresses that do not exist."""

from typing import Any, cast

from django.db import DatabaseError, connection
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.views import ApiView
from ml.errors import ModelFileError
from ml.registry import serving_directory
from ml.runtime import read_card

WORKS, BROKEN = "ok", "failed"


class ChecksSerializer(serializers.Serializer):
    """What was looked at."""

    database = serializers.ChoiceField(choices=[WORKS, BROKEN])
    model = serializers.ChoiceField(choices=[WORKS, BROKEN])


class HealthSerializer(serializers.Serializer):
    """Whether the portal works."""

    status = serializers.ChoiceField(choices=[WORKS, BROKEN])
    checks = ChecksSerializer()


class Health(ApiView):
    """Whether the portal works."""

    permission_classes = [AllowAny]

    @extend_schema(
        operation_id="health",
        tags=["health"],
        summary="Does the portal work?",
        auth=[],
        responses={200: HealthSerializer, 503: HealthSerializer},
    )
    def get(self, request: Request) -> Response:
        """Look at the database and at the model's card; 503 where one of them fails."""
        checks = {"database": WORKS, "model": WORKS}
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except DatabaseError:
            checks["database"] = BROKEN
        try:
            read_card(serving_directory())
        except (ModelFileError, DatabaseError):
            checks["model"] = BROKEN
        status = BROKEN if BROKEN in checks.values() else WORKS
        return Response({"status": status, "checks": checks}, status=200 if status == WORKS else 503)


class Description(ApiView):
    """The OpenAPI document."""

    @extend_schema(exclude=True)
    def get(self, request: Request) -> Response:
        """Describe all addresses (OpenAPI 3.1)."""
        described = cast(dict[str, Any], SchemaGenerator().get_schema(request=None, public=True))
        described["servers"] = [{"url": request.build_absolute_uri("/").rstrip("/")}]
        return Response(described)


class Nothing(ApiView):
    """An address that does not exist."""

    permission_classes = [AllowAny]

    @extend_schema(exclude=True)
    def get(self, request: Request) -> Response:
        """Say that there is nothing."""
        raise Http404

    post = put = patch = delete = get


@require_safe
def documentation(request: HttpRequest) -> HttpResponse:
    """Show the description to people, who can try it with their own session."""
    return render(request, "portal/api_docs.html")
