"""Turns every error of the API into problem details with a sentence."""

import logging
import math
from collections.abc import Iterator
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.core.signals import got_request_exception
from django.http import Http404, HttpResponseBase
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from rest_framework import exceptions
from rest_framework.views import set_rollback

from accounts.api.problems import ProblemError, invalid, problem

logger = logging.getLogger(__name__)


def handle(error: Exception, context: dict[str, Any]) -> HttpResponseBase:
    """Answer an error that a view raised; what nobody expected is logged, and told in one fixed sentence."""
    request = context["request"]._request
    set_rollback()
    known = _as_problem(error)
    if known is None:
        logger.error("The API failed unexpectedly at %s.", request.path, exc_info=error)
        got_request_exception.send(sender=None, request=request)
        sentence = _(
            "Something went wrong inside the portal. Please try again; if it fails again, tell your administrator the "
            "time."
        )
        return problem(request, status=500, detail=sentence)
    headers = known.headers | dict(getattr(error, "auth_headers", {}))
    if (header := getattr(error, "auth_header", None)) and "WWW-Authenticate" not in headers:
        headers["WWW-Authenticate"] = header
    return problem(
        request,
        status=known.status_code,
        detail=known.sentence,
        kind=known.kind,
        headers=headers,
        **known.members,
    )


def _as_problem(error: Exception) -> ProblemError | None:
    match error:
        case ProblemError():
            return error
        case Http404() | exceptions.NotFound():
            return ProblemError(404, _("There is nothing here that you may see. Please check the address."))
        case exceptions.ValidationError():
            return invalid(_listed(error.detail))
        case exceptions.ParseError():
            return ProblemError(400, _("The body is no valid JSON. Please check it."))
        case exceptions.NotAuthenticated():
            return ProblemError(401, _("Please send a token in the header Authorization, or log in to the portal."))
        case exceptions.Throttled():
            return _too_often(error)
        case exceptions.MethodNotAllowed():
            return ProblemError(405, _("This address does not know this method. Please check the documentation."))
        case exceptions.UnsupportedMediaType():
            sentence = str(error.detail) if error.detail else ""
            if sentence.startswith("Unsupported"):
                sentence = _("Please send the body as application/json.")
            return ProblemError(415, sentence)
        case exceptions.APIException():
            return ProblemError(error.status_code, str(error.detail))
        case PermissionDenied():
            return ProblemError(403, str(error) or _("You may see this, but not do this."))
        case RequestDataTooBig():
            return ProblemError(413, _("The request is too large. Please send less at a time."))
        case SuspiciousOperation():
            return ProblemError(400, _("The request cannot be understood."))
    return None


def _too_often(error: exceptions.Throttled) -> ProblemError:
    seconds = max(1, math.ceil(getattr(error, "wait", None) or 1))
    sentence = ngettext(
        "There were too many requests. Please wait a second, then go on more slowly.",
        "There were too many requests. Please wait %(seconds)d seconds, then go on more slowly.",
        seconds,
    )
    return ProblemError(429, sentence % {"seconds": seconds}, headers={"Retry-After": str(seconds)})


def _listed(detail: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield field and sentence of the framework's nested errors."""
    if isinstance(detail, dict):
        for key, inner in detail.items():
            here = "" if key == "non_field_errors" else str(key)
            yield from _listed(inner, ".".join(filter(None, [name, here])))
    elif isinstance(detail, list):
        for inner in detail:
            yield from _listed(inner, name)
    else:
        yield name, str(detail)
