"""What every answer tells the browser to refuse: foreign scripts, frames, devices, caches, other sites' windows.

The names are those of Django 6 (``SECURE_CSP``), which this project will move to; until then this middleware sends the
policy. A view that needs more than the policy allows says so at its definition, with ``also_allow``.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

Policy = Mapping[str, Sequence[str]]

# What no page of the portal uses; a browser refuses it even to a script that got in.
PERMISSIONS: Final = {
    "accelerometer": "()",
    "autoplay": "()",
    "camera": "()",
    "display-capture": "()",
    "encrypted-media": "()",
    "fullscreen": "(self)",  # a slice on the whole screen
    "geolocation": "()",
    "gyroscope": "()",
    "magnetometer": "()",
    "microphone": "()",
    "midi": "()",
    "payment": "()",
    "picture-in-picture": "()",
    "publickey-credentials-create": "(self)",  # passkeys
    "publickey-credentials-get": "(self)",
    "screen-wake-lock": "()",
    "usb": "()",
    "xr-spatial-tracking": "()",
}
FIXED: Final = {
    "Permissions-Policy": ", ".join(f"{name}={allowed}" for name, allowed in PERMISSIONS.items()),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Origin-Agent-Cluster": "?1",
    "X-Permitted-Cross-Domain-Policies": "none",
}
# The attribute of a response under which a view's additions wait for the middleware.
ADDITIONS: Final = "_also_allowed"


def also_allow(**additions: Sequence[str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let one view's page do more than the policy: ``@also_allow(worker_src=["blob:"])`` adds to ``worker-src``.

    An addition never replaces what the policy allows already. Goes on functions that answer requests.
    """

    def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        def allowed(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            response = view(request, *args, **kwargs)
            setattr(response, ADDITIONS, {name.replace("_", "-"): sources for name, sources in additions.items()})
            return response

        return allowed

    return decorate


def policy_text(policy: Policy, *, additions: Policy | None = None) -> str:
    """Return a policy as the header has it, directives in the order given."""
    merged = {name: list(sources) for name, sources in policy.items()}
    for name, sources in (additions or {}).items():
        # A directive that the policy leaves to default-src begins with what that one says.
        known = merged.setdefault(name, [source for source in merged.get("default-src", []) if source != "'none'"])
        merged[name] = [source for source in known if source != "'none'"]
        merged[name] += [source for source in sources if source not in known]
    return "; ".join(" ".join([name, *sources]) for name, sources in merged.items())


class SecurityHeadersMiddleware:
    """Puts the headers on every answer, static files and errors included; a header that a view has set stays."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        self.policy = policy_text(settings.SECURE_CSP)

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer the request and put the headers on."""
        response = self.get_response(request)
        additions = getattr(response, ADDITIONS, None)
        policy = policy_text(settings.SECURE_CSP, additions=additions) if additions else self.policy
        response.headers.setdefault("Content-Security-Policy", policy)
        for name, value in FIXED.items():
            response.headers.setdefault(name, value)
        # Static files say themselves how long they keep; a page about a patient stays in no cache.
        response.headers.setdefault("Cache-Control", "private, no-store")
        return response
