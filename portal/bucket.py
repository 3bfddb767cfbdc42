"""The private store in a bucket of an S3-compatible service, so that any number of machines see the same files.

The bytes are those of ``portal.storage``, encrypted where there are keys. Nothing is ever public: files have no
address, and they leave through the views. Reading asks for blocks of ``BLOCK`` bytes, so memory holds one block of a
file at a time, and a picture is one request.
"""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Final

from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.core.files import File
from storages.backends.s3 import S3Storage
from storages.utils import clean_name

from portal.storage import FULL_TOKEN, MAGIC, NO_ADDRESS, PIECE, PlacedReader, StoredFile, refuse_writing, to_be_kept

# One full piece of an encrypted file together with what stands before it.
BLOCK: Final = FULL_TOKEN + len(MAGIC) + 16
_PART: Final = 8 * 1024 * 1024  # bytes; what is larger is sent in parts, one after the other
_MISSING: Final = ("404", "NoSuchKey", "NotFound")


class StoreUnavailableError(ConnectionError):
    """The bucket does not answer, or refuses: nothing is known about the file."""


class BlockReader(PlacedReader):
    """The bytes of an object, seekable, one block in memory."""

    def __init__(self, client: Any, *, bucket: str, key: str) -> None:
        """Ask for the first block. Raises ``FileNotFoundError`` and ``StoreUnavailableError``."""
        super().__init__()
        self._client, self._bucket, self._key = client, bucket, key
        self._start, self._block, self._version = 0, b"", ""
        with _os_errors(key):
            try:
                answer = client.get_object(Bucket=bucket, Key=key, Range=f"bytes=0-{BLOCK - 1}")
            except ClientError as error:
                if error.response["Error"]["Code"] not in ("InvalidRange", "416"):
                    raise
                self.size = 0  # of an empty file no byte can be asked for
                return
            self._block = answer["Body"].read()
        self._version = answer["ETag"]
        self.size = int(answer.get("ContentRange", f"/{len(self._block)}").rpartition("/")[2])

    def _part(self, at_most: int) -> bytes:
        """Raise ``StoreUnavailableError``, also where another file has taken the name."""
        offset = self._position - self._start
        if not 0 <= offset < len(self._block):
            self._load()
            offset = 0
        return self._block[offset : offset + at_most]

    def _load(self) -> None:
        end = min(self._position + BLOCK, self.size) - 1
        with _os_errors(self._key):
            answer = self._client.get_object(
                Bucket=self._bucket, Key=self._key, Range=f"bytes={self._position}-{end}", IfMatch=self._version
            )
            self._block, self._start = answer["Body"].read(), self._position


class ChunkStream(io.RawIOBase):
    """Chunks as a stream that can be read once."""

    def __init__(self, chunks: Iterable[bytes | str]) -> None:
        super().__init__()
        self._chunks, self._left = iter(chunks), b""

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` from the chunk at hand."""
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._left = chunk.encode() if isinstance(chunk, str) else chunk
        part, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


class PrivateBucket(S3Storage):
    """django-storages' store in a bucket: encrypted as the folder is, read in blocks, without any address.

    Keys of the service come from the environment or the machine's role, as Amazon's library looks for them.
    """

    def __init__(self, **options: Any) -> None:
        config = Config(connect_timeout=5, read_timeout=30, retries={"max_attempts": 4, "mode": "standard"})
        super().__init__(**{"client_config": config, "transfer_config": _one_after_the_other(), **options})

    def _open(self, name: str, mode: str = "rb") -> File:
        refuse_writing(mode)
        return StoredFile(self, name)

    def _save(self, name: str, content: File) -> str:
        name = clean_name(name)
        self.write_raw(name, to_be_kept(content).chunks(PIECE))
        return name

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""
        with _os_errors(name):
            return bool(super().exists(name))

    def delete(self, name: str) -> None:
        """Delete a file; one that is not there is none to delete."""
        with _os_errors(name):
            super().delete(name)

    def size(self, name: str) -> int:
        """Return how many bytes the plain file has."""
        with self.open(name) as file:
            return int(file.seek(0, io.SEEK_END))

    def url(self, name: str | None, *args: Any, **kwargs: Any) -> str:
        """Refuse: files leave through views that check and record."""
        raise ValueError(NO_ADDRESS)

    def names(self) -> Iterator[str]:
        """Yield the name of every stored file."""
        prefix = f"{self.location.strip('/')}/" if self.location else ""
        with _os_errors(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket_name, Prefix=prefix)
            for page in pages:
                yield from (entry["Key"][len(prefix) :] for entry in page.get("Contents", ()))

    def raw(self, name: str) -> BinaryIO:
        """Open the bytes as they are kept. Raises ``FileNotFoundError`` and ``StoreUnavailableError``."""
        reader = BlockReader(self._client, bucket=self.bucket_name, key=self._key(name))
        return io.BufferedReader(reader, buffer_size=64 * 1024)

    def write_raw(self, name: str, chunks: Iterable[bytes], *, only_replace: bool = False) -> None:
        """Keep these bytes; an object appears when it is complete. Raises ``StoreUnavailableError``."""
        if only_replace and not self.exists(name):
            return
        with _os_errors(name):
            self._client.upload_fileobj(
                io.BufferedReader(ChunkStream(chunks), buffer_size=PIECE),
                self.bucket_name,
                self._key(name),
                ExtraArgs={"ContentType": "application/octet-stream", **self.get_object_parameters(name)},
                Config=self.transfer_config,
            )

    def changed_at(self, name: str) -> float:
        """Return when the file was written, in seconds since 1970."""
        with _os_errors(name):
            answer = self._client.head_object(Bucket=self.bucket_name, Key=self._key(name))
        return float(answer["LastModified"].timestamp())

    @property
    def _client(self) -> Any:
        # One a thread: the library's resources are not made to be shared.
        return self.connection.meta.client

    def _key(self, name: str) -> str:
        return str(self._normalize_name(clean_name(name)))


def _one_after_the_other() -> TransferConfig:
    return TransferConfig(multipart_threshold=_PART, multipart_chunksize=_PART, use_threads=False)


@contextmanager
def _os_errors(name: str) -> Iterator[None]:
    """Turn the library's errors into those that the portal knows from folders."""
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] in _MISSING:
            raise FileNotFoundError(f"There is no stored file of this name. Received: {name}.") from error
        raise StoreUnavailableError(_refused(error.response["Error"]["Code"])) from error
    except BotoCoreError as error:
        raise StoreUnavailableError(_refused(type(error).__name__)) from error


def _refused(reason: str) -> str:
    return f"The store of pictures does not answer as it should ({reason}). Please check IRA_S3_BUCKET and its access."
