"""Stops a request that is too large before it is read, and tells the view in a sentence why there is no file."""

from typing import Any

from django.conf import settings
from django.core.files.uploadhandler import FileUploadHandler, StopUpload
from django.http import HttpRequest

# Boundaries, part headers and text fields that come along with the files.
OVERHEAD_BYTES = 1024 * 1024
# A body a little too large is read and thrown away, because browsers show no answer to a request that they could not
# finish sending. One that is larger still is cut off.
DRAINED_UP_TO = 4
# The attribute of the request under which a refusal waits for the view.
REFUSAL = "upload_refusal"


class LimitedUploadHandler(FileUploadHandler):
    """First of the upload handlers: refuses by the announced length, and again by what really arrives.

    After a refusal the request holds the text fields that came before the first file, and ``refusal(request)`` the
    sentence for the user; no byte of a file has been kept.
    """

    def __init__(self, request: HttpRequest | None = None) -> None:
        super().__init__(request)
        self.limit = settings.UPLOAD_MAX_BYTES
        self.announced = 0
        self.received = 0

    def handle_raw_input(
        self,
        input_data: Any,
        META: dict[str, Any],
        content_length: int,
        boundary: str,
        encoding: str | None = None,
    ) -> None:
        """Note the length that the request announces."""
        self.announced = content_length

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        """Refuse before the first byte of a file if the request says that it is too large."""
        super().new_file(*args, **kwargs)
        if self.announced > self.limit + OVERHEAD_BYTES:
            self._refuse()

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes:
        """Count what arrives, whatever was announced, and hand it on."""
        self.received += len(raw_data)
        if self.received > self.limit:
            self._refuse()
        return raw_data

    def file_complete(self, file_size: int) -> None:
        """Leave keeping the file to the next handler."""

    def _refuse(self) -> None:
        if self.request is not None:
            sentence = (
                f"The files are larger than the {self.limit / 1024 / 1024:.0f} MB that are accepted at a time. Please "
                "choose fewer files, or export the slice as an 8-bit PNG or JPEG."
            )
            setattr(self.request, REFUSAL, sentence)
        raise StopUpload(connection_reset=self.announced > DRAINED_UP_TO * self.limit)


def refusal(request: HttpRequest) -> str:
    """Return the sentence that says why the request's files were not read; empty where they were."""
    # The handlers run when the body is first parsed.
    _ = request.POST
    return getattr(request, REFUSAL, "")
