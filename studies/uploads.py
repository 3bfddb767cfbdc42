"""Stops a request that is too large before it is read, and tells the view in a sentence why there is no file.

Views marked ``takes_many_files`` have a limit of their own, and their files go to disk one by one.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler, StopUpload
from django.http import HttpRequest
from django.utils.translation import gettext as _

# Boundaries, part headers and text fields that come along with the files.
OVERHEAD_BYTES = 1024 * 1024
# A body a little too large is read and thrown away, because browsers show no answer to a request that they could not
# finish sending. One that is larger still is cut off.
DRAINED_UP_TO = 4
# The attribute of the request under which a refusal waits for the view.
REFUSAL = "upload_refusal"
MANY_FILES = "takes_many_files"


View = TypeVar("View", bound=Callable[..., Any])


def takes_many_files(view: View) -> View:
    """Mark a view whose requests may be as large as a bulk import."""
    setattr(view, MANY_FILES, True)
    return view


class LimitedUploadHandler(FileUploadHandler):
    """First of the upload handlers: refuses by the announced length, and again by what really arrives.

    After a refusal the request holds the text fields that came before the first file, and ``refusal(request)`` the
    sentence for the user; no byte of a file has been kept.
    """

    def __init__(self, request: HttpRequest | None = None) -> None:
        super().__init__(request)
        self.limit = settings.IMPORT_MAX_BYTES if _takes_many(request) else settings.UPLOAD_MAX_BYTES
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
            sentence = _(
                "The files are larger than the %(megabytes)d MB that are accepted at a time. Please choose fewer "
                "files, or export the slice as an 8-bit PNG or JPEG."
            ) % {"megabytes": round(self.limit / 1024 / 1024)}
            setattr(self.request, REFUSAL, sentence)
        raise StopUpload(connection_reset=self.announced > DRAINED_UP_TO * self.limit)


class SpooledFile(UploadedFile):
    """An uploaded file on disk that holds no file descriptor while nobody reads it; deleted with the request."""

    def __init__(self, *, stream: IO[bytes], path: Path, name: str) -> None:
        super().__init__(file=stream, name=name, size=0)
        self.path = path

    def temporary_file_path(self) -> str:
        """Return where the file lies: a store on the same disk moves it instead of copying it."""
        return str(self.path)

    def finish(self, size: int) -> None:
        """Close the file after its last byte, and keep it."""
        if self.file is not None:
            self.file.close()
        self.size = size

    def open(self, mode: str | None = None, *args: Any, **kwargs: Any) -> "SpooledFile":
        """Open the file anew."""
        self.file = self.path.open("rb")
        return self

    def chunks(self, chunk_size: int | None = None) -> Iterator[bytes]:
        """Yield the bytes, from a file that is open only for so long: a store that does not move it reads it so."""
        with self.path.open("rb") as stream:
            while chunk := stream.read(chunk_size or self.DEFAULT_CHUNK_SIZE):
                yield chunk

    def close(self) -> None:
        """Delete the file unless a store has moved it away."""
        if self.file is not None:
            self.file.close()
        self.path.unlink(missing_ok=True)


class SpoolingUploadHandler(FileUploadHandler):
    """Writes the files of a bulk import to disk, one after the other: hundreds neither fill memory nor stay open.

    Django closes ``file`` when it stops a request half-way, which deletes what has come of it.
    """

    file: SpooledFile

    def __init__(self, request: HttpRequest | None = None) -> None:
        super().__init__(request)
        self.is_active = _takes_many(request)

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        """Open a place on disk for the file that follows."""
        super().new_file(*args, **kwargs)
        if self.is_active:
            folder = Path(settings.FILE_UPLOAD_TEMP_DIR or Path(settings.MEDIA_ROOT) / "incoming")
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, path = tempfile.mkstemp(dir=folder)
            self.file = SpooledFile(stream=os.fdopen(descriptor, "wb"), path=Path(path), name=self.file_name or "")

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes | None:
        """Write what arrives, or hand it on."""
        if not self.is_active:
            return raw_data
        self.file.write(raw_data)
        return None

    def file_complete(self, file_size: int) -> SpooledFile | None:
        """Return the file, closed, or leave keeping it to the next handler."""
        if not self.is_active:
            return None
        self.file.finish(file_size)
        return self.file

    def upload_interrupted(self) -> None:
        """Throw the unfinished file away."""
        if self.is_active and hasattr(self, "file"):
            self.file.close()


def _takes_many(request: HttpRequest | None) -> bool:
    match = getattr(request, "resolver_match", None)
    return match is not None and getattr(match.func, MANY_FILES, False)


def refusal(request: HttpRequest) -> str:
    """Return the sentence that says why the request's files were not read; empty where they were."""
    # The handlers run when the body is first parsed.
    _ = request.POST
    return getattr(request, REFUSAL, "")
