"""The language that a person chose: for their pages on every device, and for the mails they get."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import translation
from django.views.decorators.http import require_POST
from django.views.i18n import set_language as remember_language

from accounts.models import User


@login_not_required
@require_POST
def set_language(request: HttpRequest) -> HttpResponseBase:
    """Answer the switch in the footer: remembered in this browser and, for somebody logged in, everywhere."""
    wanted = request.POST.get("language", "")
    if isinstance(request.user, User) and wanted in dict(settings.LANGUAGES):
        request.user.language = wanted
        request.user.save(update_fields=["language"])
    return remember_language(request)


class UserLanguageMiddleware:
    """Speaks the language that a person chose; whoever chose none gets what their browser asks for."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Activate the language for the view and its templates."""
        if settings.SESSION_COOKIE_NAME in request.COOKIES and isinstance(request.user, User) and request.user.language:
            translation.activate(request.user.language)
            request.LANGUAGE_CODE = translation.get_language()
        return self.get_response(request)


def speaking_to(user: User) -> AbstractContextManager[None]:
    """Return a context in which sentences are in a person's language, whoever causes them.

    A mail about a signature is written while the doctor's language is active, and read by the patient.
    """
    return translation.override(user.language or settings.LANGUAGE_CODE)
