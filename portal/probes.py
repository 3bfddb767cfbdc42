"""Addresses for machines that ask whether the portal lives: answered before anything else, whatever name they call it.

A load balancer asks by address, without TLS and without a session. So these are answered before the host name is looked
at and a session is opened, and ``SECURE_REDIRECT_EXEMPT`` keeps them from going to HTTPS. Strangers learn one word;
whoever sends ``Authorization: Bearer`` with ``IRA_READY_TOKEN`` learns what is wrong.
"""

import hmac
from collections.abc import Callable
from typing import Final

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.views.decorators.http import require_safe

from portal.readiness import look


@login_not_required
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """Say that the process answers; nothing more is checked or told here."""
    return HttpResponse("ok\n", content_type="text/plain")


@login_not_required
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """Say whether a slice that arrives now will be analysed (200) or not (503)."""
    return _answer(request, of_web_only=False)


@login_not_required
@require_safe
def readyz_web(request: HttpRequest) -> JsonResponse:
    """Say whether this web process can serve pages: for load balancers, which must not drop it for a dead worker."""
    return _answer(request, of_web_only=True)


def _answer(request: HttpRequest, *, of_web_only: bool) -> JsonResponse:
    found = look()
    is_ready = found.web_is_ready if of_web_only else found.is_ready
    body: dict[str, object] = {"status": "ready" if is_ready else "not ready"}
    if _may_know(request):
        body["checks"] = found.as_json()
    return JsonResponse(body, status=200 if is_ready else 503)


def _may_know(request: HttpRequest) -> bool:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    expected = settings.READY_TOKEN
    return bool(expected) and scheme == "Bearer" and hmac.compare_digest(token.encode(), expected.encode())


PROBES: Final[dict[str, Callable[[HttpRequest], HttpResponse]]] = {
    "/healthz": healthz,
    "/readyz": readyz,
    "/readyz/web": readyz_web,
}


class ProbesMiddleware:
    """Answers the probes; everything else goes on."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer the request."""
        probe = PROBES.get(request.path_info)
        return self.get_response(request) if probe is None else probe(request)
