"""What the API of this room shares: finding rows that may be seen, pages of lists, and examples."""

import uuid
from collections.abc import Sequence
from typing import Any, Final

from django.core.exceptions import PermissionDenied
from django.db import models
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.problems import invalid
from accounts.models import User
from studies.models import Analysis, Image, Study
from studies.paging import page_of

AFTER: Final = OpenApiParameter(
    "after", str, description="The key of a page, as it stands in `next`; a key that does not read is the first page."
)
PNG: Final = {(200, "image/png"): OpenApiTypes.BINARY}


def link(request: Request, name: str, **kwargs: Any) -> str:
    """Return the full address of something in the API."""
    address: str = request.build_absolute_uri(reverse(f"api:{name}", kwargs=kwargs))
    return address


def refuse_empty(request: Request, *names: str) -> None:
    """Refuse a filter that is named without a value: a script that lost its value must not be given everything.

    Raises the refusal of all of them together.
    """
    empty = [name for name in names if any(not value.strip() for value in request.GET.getlist(name))]
    if empty:
        raise invalid([(name, _("This is empty. Please give it a value, or leave it out.")) for name in empty])


def listed(name: str, serializer: type[serializers.Serializer]) -> Any:
    """Return what the description says of a page of rows."""
    return inline_serializer(
        name,
        {
            "results": serializer(many=True),
            "next": serializers.URLField(allow_null=True, help_text="Address of the next page; empty on the last."),
        },
    )


def page_response(
    request: Request,
    rows: models.QuerySet[Any],
    *,
    order: Sequence[str],
    serializer: type[serializers.Serializer],
    size: int | None = None,
) -> Response:
    """Return one page of rows by key, as the pages of the portal have them, with the address of the next."""
    sizes = {} if size is None else {"size": size}
    page = page_of(rows, order=order, after=request.GET.get("after", ""), **sizes)
    following = None
    if page.next_key:
        asked = request.GET.copy()
        asked["after"] = page.next_key
        following = request.build_absolute_uri(f"{request.path}?{asked.urlencode()}")
    results = serializer(page.rows, many=True, context={"request": request}).data
    return Response({"results": results, "next": following})


def visible_study(doctor: User, study_id: uuid.UUID) -> Study:
    """Return a study with its patient and hospital; what this doctor may not see does not exist."""
    visible = Study.objects.visible_to(doctor).select_related("patient__hospital", "created_by")
    return get_object_or_404(visible, id=study_id)


def changeable_study(doctor: User, study_id: uuid.UUID) -> Study:
    """Return a study on which the doctor may work. Raises ``PermissionDenied`` for one that may only be read."""
    study = visible_study(doctor, study_id)
    require_change(study, by=doctor)
    return study


def require_change(study: Study, *, by: User) -> None:
    """Raise ``PermissionDenied`` with a sentence for a doctor who may only read the study."""
    if not study.can_be_changed_by(by):
        raise PermissionDenied(_("You may read this study, but not change it."))


def visible_image(doctor: User, image_id: uuid.UUID) -> Image:
    """Return a slice with its study; what this doctor may not see does not exist."""
    return get_object_or_404(Image.objects.visible_to(doctor).select_related("study__patient__hospital"), id=image_id)


def visible_analysis(doctor: User, analysis_id: uuid.UUID) -> Analysis:
    """Return an analysis with its study; what this doctor may not see does not exist."""
    visible = Analysis.objects.visible_to(doctor).select_related("image__study__patient__hospital", "requested_by")
    return get_object_or_404(visible, id=analysis_id)


def binary(media_type: str, description: str) -> dict[tuple[int, str], Any]:
    """Return what the description says of an address that sends a file."""
    return {(200, media_type): OpenApiResponse(response=OpenApiTypes.BINARY, description=description)}
