"""Uploads that may be sent twice: the same key with the same content is one request, with other content a mistake."""

import hashlib
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from django.core.files.base import File
from django.http import HttpRequest
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter

from accounts.api.problems import ProblemError, invalid
from accounts.models import SentRequest, User

HEADER: Final = "Idempotency-Key"
KEY: Final = re.compile(r"[\x21-\x7e]{1,200}")
ASK_AGAIN_AFTER_S: Final = 2
# For the documentation of the addresses that take a key.
PARAMETER: Final = OpenApiParameter(
    HEADER,
    str,
    OpenApiParameter.HEADER,
    description=(
        "A name of your own for this upload, such as a UUID. Sent again within 24 hours with the same content, the "
        "upload is answered as before and nothing is stored twice; with other content the answer is 422."
    ),
    required=False,
)


@dataclass(kw_only=True)
class Attempt:
    """One try of an upload. ``id`` is the identifier that what it makes is to have; ``result`` what it made before."""

    id: uuid.UUID
    result: list[uuid.UUID] | None = None
    row: SentRequest | None = None

    def finish(self, *made: uuid.UUID) -> None:
        """Note what came of it, once that is committed."""
        self.result = list(made)
        if self.row is not None:
            SentRequest.objects.filter(pk=self.row.pk).update(result=[str(one) for one in made])

    @property
    def headers(self) -> dict[str, str]:
        """What tells a program that nothing was stored this time."""
        return {"Idempotent-Replayed": "true"}


@contextmanager
def attempt(request: HttpRequest, *, by: User) -> Iterator[Attempt]:
    """Recognise a request that is sent again by its ``Idempotency-Key``; without one, every request is a new one.

    Inside, ``result`` is None for the request that has to do the work, and holds the identifiers of what the first one
    made otherwise. A request that is refused leaves no trace: its key may be used for what is sent corrected.

    Raises a problem for a key that is no key (400), that was used with other content (422), or whose first request is
    still under way (409).
    """
    key = request.headers.get(HEADER)
    if key is None:
        yield Attempt(id=uuid.uuid4())
        return
    if not KEY.fullmatch(key):
        raise invalid([(HEADER, _("A key has between 1 and 200 printable characters without spaces."))])
    fingerprint = _fingerprint(request)
    row, is_mine = SentRequest.objects.take(by, key=hashlib.sha256(key.encode()).hexdigest(), fingerprint=fingerprint)
    if row.fingerprint != fingerprint:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            _("This key was used for another request already. Please take a new key for each new upload."),
            kind="key-reused",
        )
    if row.result is not None:
        yield Attempt(id=row.pk, result=[uuid.UUID(one) for one in row.result], row=row)
        return
    if not is_mine:
        raise ProblemError(
            HTTPStatus.CONFLICT,
            _("The first request with this key is still under way. Please ask again in a moment."),
            kind="conflict",
            headers={"Retry-After": str(ASK_AGAIN_AFTER_S)},
        )
    try:
        yield Attempt(id=row.pk, row=row)
    finally:
        # Refused or failed: nothing is known of it. What is made is noted by finish() before this line.
        SentRequest.objects.filter(pk=row.pk, result__isnull=True).delete()


def _fingerprint(request: HttpRequest) -> str:
    """Return a hash of what is asked: path, fields and files, in whatever parts they came."""
    digest = hashlib.sha256()
    for part in _parts(request):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def _parts(request: HttpRequest) -> Iterable[bytes]:
    yield f"{request.method} {request.path}".encode()
    if request.content_type != "multipart/form-data":
        yield request.body
        return
    for name, values in sorted(_lists(request.POST)):
        yield name.encode("utf-8", "replace")
        yield from (str(value).encode("utf-8", "replace") for value in values)
    for name, files in sorted(_lists(request.FILES), key=lambda item: item[0]):
        yield name.encode("utf-8", "replace")
        for file in files:
            yield str(file.name).encode("utf-8", "replace")
            yield _content_of(file)


def _lists(values: Any) -> list[tuple[str, list[Any]]]:
    return [(name, values.getlist(name)) for name in values]


def _content_of(file: File) -> bytes:
    digest = hashlib.sha256()
    file.open()
    file.seek(0)
    for chunk in file.chunks():
        digest.update(chunk)
    file.seek(0)
    return digest.digest()
