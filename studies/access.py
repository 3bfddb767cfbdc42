"""Which role a page is for. A page of another role does not exist: 404, as for everything that one may not see."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

from django.http import Http404, HttpRequest, HttpResponseBase

from accounts.models import User

Arguments = ParamSpec("Arguments")
View = Callable[Concatenate[HttpRequest, Arguments], HttpResponseBase]


def current_user(request: HttpRequest) -> User:
    """Return who asks. Every view of this app stands behind the log-in wall, so it is never anonymous."""
    assert isinstance(request.user, User)  # noqa: S101 - narrows the type behind the log-in wall
    return request.user


def doctors_only(view: View[Arguments]) -> View[Arguments]:
    """Answer 404 to anybody who is not an approved doctor."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Arguments.args, **kwargs: Arguments.kwargs) -> HttpResponseBase:
        if not current_user(request).is_approved_doctor:
            raise Http404
        return view(request, *args, **kwargs)

    return checked


def patients_only(view: View[Arguments]) -> View[Arguments]:
    """Answer 404 to anybody who is not here as a patient."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Arguments.args, **kwargs: Arguments.kwargs) -> HttpResponseBase:
        if not current_user(request).is_patient:
            raise Http404
        return view(request, *args, **kwargs)

    return checked
