"""How the API refuses: problem details (RFC 9457), each with a full sentence that says what to do next."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from django.forms import BaseForm
from django.http import HttpRequest, JsonResponse
from django.utils.translation import gettext as _
from rest_framework.exceptions import APIException

CONTENT_TYPE: Final = "application/problem+json"
# Kinds of problems that a program tells apart by more than the status. Others are "about:blank" (RFC 9457, 4.2.1).
KINDS: Final = {
    "invalid": "urn:radiology-portal:problem:invalid",
    "insufficient-scope": "urn:radiology-portal:problem:insufficient-scope",
    "first-impression-missing": "urn:radiology-portal:problem:first-impression-missing",
    "conflict": "urn:radiology-portal:problem:conflict",
    "stale": "urn:radiology-portal:problem:stale",
    "unread": "urn:radiology-portal:problem:unread",
    "key-reused": "urn:radiology-portal:problem:key-reused",
    "busy": "urn:radiology-portal:problem:busy",
}


class ProblemError(APIException):
    """A refusal with a status, a sentence, a kind, and members of its own."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        kind: str = "",
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.status_code = status
        self.sentence = detail
        self.kind = kind
        self.headers = dict(headers or {})
        self.members = members


def problem(
    request: HttpRequest | Any,
    *,
    status: int,
    detail: str,
    kind: str = "",
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> JsonResponse:
    """Return a refusal as the API sends it."""
    body = {
        "type": KINDS[kind] if kind else "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": request.path,
        **members,
    }
    return JsonResponse(body, status=status, content_type=CONTENT_TYPE, headers=dict(headers or {}))


def invalid(errors: Iterable[tuple[str, str]], *, status: int = 400) -> ProblemError:
    """Return the refusal of what was sent: each wrong field with its sentence, and all sentences together."""
    listed = [{"field": field, "detail": detail} for field, detail in errors]
    detail = " ".join(f"{one['field']}: {one['detail']}" if one["field"] else one["detail"] for one in listed)
    return ProblemError(status, detail or _("The request cannot be understood."), kind="invalid", errors=listed)


def form_errors(form: BaseForm) -> list[tuple[str, str]]:
    """Return what is wrong with a form: the field's name, empty for the form as a whole, and a sentence."""
    return [
        ("" if name == "__all__" else name, str(sentence)) for name, found in form.errors.items() for sentence in found
    ]


def check(form: BaseForm) -> None:
    """Raise the refusal of a form that is not valid."""
    if not form.is_valid():
        raise invalid(form_errors(form))


def conflict(error: Exception | str, **members: Any) -> ProblemError:
    """Return the refusal of an act that the present state does not allow, or that somebody else was faster with."""
    return ProblemError(409, str(error), kind="conflict", **members)
