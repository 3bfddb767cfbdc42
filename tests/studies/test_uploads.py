"""The upload handler by itself: what is announced, what arrives, and what it costs to refuse it."""

import io
from typing import Any

import pytest
from django.core.files.uploadhandler import MemoryFileUploadHandler
from django.core.handlers.wsgi import WSGIRequest
from django.test import RequestFactory
from pytest_django.fixtures import Settings

from studies.uploads import LimitedUploadHandler, refusal

BOUNDARY = "x" * 20
HEAD = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="family_name"\r\n\r\nMuster\r\n'
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="slices"; filename="a.png"\r\n'
    "Content-Type: image/png\r\n\r\n"
).encode()
TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()


class Counted(io.RawIOBase):
    """A request body of a given size that counts what is read of it."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.head = io.BytesIO(HEAD)
        self.tail = io.BytesIO(TAIL)
        self.total_read = 0

    def read(self, size: int = -1) -> bytes:
        size = 65536 if size is None or size < 0 else size
        chunk = self.head.read(size)
        if not chunk and self.left:
            chunk = b"x" * min(size, self.left)
            self.left -= len(chunk)
        chunk = chunk or self.tail.read(size)
        self.total_read += len(chunk)
        return chunk


def request_of(size: int, *, announced: int | None = None) -> tuple[WSGIRequest, Counted]:
    body = Counted(size)
    length = len(HEAD) + size + len(TAIL) if announced is None else announced
    extra: dict[str, Any] = {
        "wsgi.input": body,
        "CONTENT_LENGTH": str(length),
        "CONTENT_TYPE": f"multipart/form-data; boundary={BOUNDARY}",
    }
    request = RequestFactory().post("/", **extra)
    request.upload_handlers = [LimitedUploadHandler(request), MemoryFileUploadHandler(request)]
    return request, body


@pytest.fixture(autouse=True)
def _limit(settings: Settings) -> None:
    settings.UPLOAD_MAX_BYTES = 3_000_000


def test_a_request_within_the_limit_passes() -> None:
    request, _body = request_of(1_000_000)
    assert refusal(request) == ""
    assert request.FILES["slices"].size == 1_000_000
    assert request.POST["family_name"] == "Muster"


def test_an_announced_excess_is_refused_before_the_file_is_kept_and_the_text_stays() -> None:
    request, body = request_of(5_000_000)
    assert "larger than the 3 MB" in refusal(request)
    assert request.POST["family_name"] == "Muster"
    assert not request.FILES
    assert body.left == 0, "read to its end and thrown away, so that browsers show the answer"


def test_a_far_larger_request_is_cut_off_and_hardly_read() -> None:
    request, body = request_of(500_000_000)
    assert "larger than the 3 MB" in refusal(request)
    assert request.POST["family_name"] == "Muster"
    assert body.total_read < 1_000_000


def test_more_than_announced_is_not_read() -> None:
    request, body = request_of(50_000_000, announced=2_000_000)
    refusal(request)
    assert body.total_read <= 2_000_000 + 65536


def test_an_excess_within_the_overhead_is_stopped_by_counting() -> None:
    request, _body = request_of(3_100_000)
    assert "larger than the 3 MB" in refusal(request)
    assert not request.FILES
