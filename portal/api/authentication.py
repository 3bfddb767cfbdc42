"""Who asks the API: a person's token, or the session of somebody who is logged in to the portal."""

from typing import Any, Final

from django.http import HttpRequest
from django.utils import translation
from django.utils.translation import gettext as _
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, CSRFCheck, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.request import Request

from accounts.audit import client_address
from accounts.backends import EmailBackend
from accounts.models import ApiToken, User
from accounts.second_factor import has_second_factor, is_required_of, second_step_sentence

REALM: Final = "radiology portal"


class TokenAuthentication(BaseAuthentication):
    """``Authorization: Bearer ira_…``. A token opens what its person may see at this moment, and nothing more."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        """Return person and token, or None where the request carries none.

        Raises ``AuthenticationFailed`` for a token that is unknown, over or revoked or whose person may not log in,
        ``PermissionDenied`` where the role needs a second step and none is set up.
        """
        kind, _space, text = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer":
            return None
        token = ApiToken.objects.named_by(text.strip())
        if token is None:
            raise AuthenticationFailed(_("This token is not known. Please check that it is complete."))
        if token.is_revoked:
            raise AuthenticationFailed(_("This token was revoked. Please make a new one on the page “API tokens”."))
        if token.is_over:
            raise AuthenticationFailed(
                _("The time of this token is over. Please make a new one on the page “API tokens”.")
            )
        user = token.user
        if not EmailBackend().user_can_authenticate(user):
            raise AuthenticationFailed(_("This account may not log in any more. Please ask your administrator."))
        if is_required_of(user) and not has_second_factor(user):
            raise PermissionDenied(second_step_sentence(user))
        if user.language and "Accept-Language" not in request.headers:
            # A script that asks for a language gets it; one that does not, its person's.
            translation.activate(user.language)
        token.note_use(address=client_address(request._request))
        return user, token

    def authenticate_header(self, request: Request) -> str:
        """Return what a 401 asks for."""
        return f'Bearer realm="{REALM}"'


class PortalSessionAuthentication(SessionAuthentication):
    """The session of a page; changes need the page's CSRF token. The second step is the middleware's."""

    def enforce_csrf(self, request: HttpRequest) -> None:
        """Raise ``PermissionDenied`` with a sentence where the CSRF token is missing or wrong."""
        check = CSRFCheck(lambda _request: None)  # type: ignore[arg-type] # it never answers
        check.process_request(request)
        if check.process_view(request, lambda: None, (), {}):  # type: ignore[arg-type,return-value]
            raise PermissionDenied(
                _(
                    "A session needs the CSRF token of the portal in the header X-CSRFToken for this. Scripts should "
                    "use a token of their own instead."
                )
            )


class TokenScheme(OpenApiAuthenticationExtension):
    """How the description names tokens."""

    target_class = TokenAuthentication
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """Return the scheme."""
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "A token from the page “API tokens” of the portal (in your profile).",
        }


class SessionScheme(OpenApiAuthenticationExtension):
    """How the description names sessions."""

    target_class = PortalSessionAuthentication
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """Return the scheme."""
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": "sessionid",
            "description": "The session of a browser that is logged in. Changes need the header X-CSRFToken.",
        }
