"""Pictures leave the private store only here: looked up among what may be seen, recorded, never cached or sniffed."""

import logging
import uuid

from django.db.models import Model
from django.db.models.fields.files import FieldFile
from django.http import FileResponse, Http404, HttpRequest
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_safe

from accounts.models import AccessEvent
from studies.access import current_user, require_revealed
from studies.models import Analysis, Image

logger = logging.getLogger(__name__)


@require_safe
def image_file(request: HttpRequest, image_id: uuid.UUID) -> FileResponse:
    """Send a slice as it was analysed."""
    image = get_object_or_404(Image.objects.visible_to(current_user(request)), id=image_id)
    return send_picture(request, image.file, target=image, name=f"slice-{image.number}.png")


@require_safe
def analysis_overlay(request: HttpRequest, analysis_id: uuid.UUID) -> FileResponse:
    """Send the slice with the outlined findings."""
    analysis = _visible_answer(request, analysis_id)
    return send_picture(request, analysis.overlay, target=analysis, name="overlay.png")


@require_safe
def analysis_mask(request: HttpRequest, analysis_id: uuid.UUID) -> FileResponse:
    """Send the outline as a mask, 0 or 255."""
    analysis = _visible_answer(request, analysis_id)
    return send_picture(request, analysis.mask, target=analysis, name="mask.png")


@require_safe
def analysis_activation(request: HttpRequest, analysis_id: uuid.UUID) -> FileResponse:
    """Send the picture of where the model looked."""
    analysis = _visible_answer(request, analysis_id)
    return send_picture(request, analysis.activation, target=analysis, name="activation.png")


def _visible_answer(request: HttpRequest, analysis_id: uuid.UUID) -> Analysis:
    user = current_user(request)
    visible = Analysis.objects.visible_to(user).select_related("image__study__patient__hospital")
    analysis = get_object_or_404(visible.filter(state=Analysis.State.SUCCEEDED), id=analysis_id)
    require_revealed(analysis.image.study, to=user)
    return analysis


def send_picture(request: HttpRequest, file: FieldFile, *, target: Model, name: str) -> FileResponse:
    """Send a stored PNG and record that it was looked at. Raises ``Http404`` where the file is missing."""
    try:
        stored = file.open("rb")
    except (FileNotFoundError, ValueError):
        logger.exception("A stored picture of %s %s is missing.", target._meta.label_lower, target.pk)
        raise Http404 from None
    AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=target)
    return FileResponse(
        stored,
        filename=name,
        content_type="image/png",
        headers={"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"},
    )
