"""What every address of the API has in common: who may ask it, with which token, and what arrives."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final, cast

from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent
from django.http import Http404, HttpRequest, QueryDict
from django.http.multipartparser import MultiPartParserError
from django.utils.datastructures import MultiValueDict
from django.utils.translation import gettext as _
from rest_framework.exceptions import APIException, UnsupportedMediaType
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.serializers import Serializer
from rest_framework.views import APIView

from accounts.api.problems import ProblemError
from accounts.models import ApiToken, Scope, User

DOCTOR: Final = "doctor"
PATIENT: Final = "patient"
DOCTOR_OR_PATIENT: Final = "doctor or patient"
ADMINISTRATOR: Final = "administrator"
SAFE: Final = ("GET", "HEAD")


class ApiView(APIView):
    """One address of the API.

    ``role`` says whom it is for; for everybody else it does not exist, as a page of another role does not. ``scopes``
    says by method what a token has to be made for: reading for what only reads, writing for the rest, unless named.
    ``is_for_people`` says that no token is made for it, because a person has to be there.
    """

    role: ClassVar[str] = ""
    is_for_people: ClassVar[bool] = False
    scopes: ClassVar[Mapping[str, str]] = {}
    parser_classes = [JSONParser]
    metadata_class = None  # the description is the OpenAPI document
    http_method_names = ["get", "head", "post", "put", "patch", "delete"]

    @classmethod
    def scope_for(cls, method: str) -> str:
        """Return what a token has to be made for to ask with this method."""
        if method in cls.scopes:
            return cls.scopes[method]
        return Scope.READ if method in SAFE else Scope.WRITE

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Find out who asks, count the request, then see whether they may.

        The order is not that of the framework: guesses of tokens have to be counted as well.
        """
        self.format_kwarg = None
        request.accepted_renderer, request.accepted_media_type = self.perform_content_negotiation(request)
        request.version, request.versioning_scheme = self.determine_version(request, *args, **kwargs)
        failure: APIException | None = None
        try:
            self.perform_authentication(request)
        except APIException as error:
            failure = error
        self.check_throttles(request)
        if failure is not None:
            raise failure
        self.check_permissions(request)

    def check_permissions(self, request: Request) -> None:
        """Refuse whoever is not logged in, has another role, or comes with a token that was not made for this."""
        super().check_permissions(request)
        user = request.user
        is_doctor, is_patient = getattr(user, "is_approved_doctor", False), getattr(user, "is_patient", False)
        meant = {
            "": True,
            DOCTOR: is_doctor,
            PATIENT: is_patient,
            DOCTOR_OR_PATIENT: is_doctor or is_patient,
            ADMINISTRATOR: getattr(user, "is_administrator", False),
        }
        if not meant[self.role]:
            raise Http404
        if self.is_for_people and isinstance(request.auth, ApiToken):
            raise PermissionDenied(_("No token is made for this. Please log in to the portal and do it there."))
        method = request.method or "GET"
        if hasattr(self, method.lower()) and isinstance(request.auth, ApiToken):
            scope = self.scope_for(method)
            if not request.auth.may(scope):
                raise ProblemError(
                    403,
                    _(
                        "This token was not made for this: it needs the scope “%(scope)s”. Please make another token "
                        "on the page “API tokens”."
                    )
                    % {"scope": scope},
                    kind="insufficient-scope",
                    headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'},
                    scope=scope,
                )

    @property
    def user(self) -> User:
        """Whoever asks; the address is not asked by anybody anonymous."""
        return cast(User, self.request.user)

    @property
    def page_request(self) -> HttpRequest:
        """The request as a page's function takes it; its user is the one whom the API found."""
        return self.request._request


def json_of(request: Request, serializer: type[Serializer]) -> dict[str, Any]:
    """Return the body as checked values. Raises what the handler turns into a problem for anything else."""
    announced = request.META.get("CONTENT_LENGTH") or "0"
    if announced.isdecimal() and int(announced) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
        # The framework reads JSON from the stream, past Django's own limit.
        raise ProblemError(413, _("The request is too large. Please send less at a time."))
    if not isinstance(request.data, dict):
        raise ProblemError(400, _("The body has to be one JSON object. Please check the documentation."))
    wanted = serializer(data=request.data)
    wanted.is_valid(raise_exception=True)
    return cast(dict[str, Any], wanted.validated_data)


def as_form(values: Mapping[str, Any]) -> QueryDict:
    """Return JSON values as a form of a page takes them: None as empty, lists as several values."""
    data = QueryDict(mutable=True)
    for name, value in values.items():
        if isinstance(value, list | tuple):
            data.setlist(name, [str(one) for one in value])
        elif isinstance(value, bool):
            if value:
                data[name] = "on"
        else:
            data[name] = "" if value is None else str(value)
    return data


def sent_form(request: HttpRequest) -> tuple[QueryDict, "MultiValueDict[str, Any]"]:
    """Return fields and files of a multipart body, read by the upload handlers of the pages.

    Raises a problem for another kind of body, and for one that is cut short or has too many parts.
    """
    if request.content_type != "multipart/form-data":
        raise UnsupportedMediaType(
            request.content_type or "",
            detail=_("Files are sent as multipart/form-data. Please send the request in that form."),
        )
    try:
        return request.POST, request.FILES
    except (MultiPartParserError, UnicodeDecodeError) as error:
        raise ProblemError(400, _("The request is damaged or cut short. Please send it again.")) from error
    except (TooManyFieldsSent, TooManyFilesSent) as error:
        raise ProblemError(413, _("The request has too many parts. Please send fewer at a time.")) from error
    except RequestDataTooBig as error:
        raise ProblemError(413, _("The request is too large. Please send less at a time.")) from error
