"""The private store of pictures, outlines and PDFs, encrypted at rest where ``IRA_PICTURE_KEYS`` names keys.

It is a folder (``PrivateStorage``), or a bucket of an S3-compatible store (``portal.bucket.PrivateBucket``); both keep
the same bytes under the same names, so that files can be moved from one to the other as they are.

A stored file is a magic word, an identifier, and pieces of ``PIECE`` bytes, each a Fernet token (AES-128-CBC with
HMAC-SHA-256) of the identifier, the piece's number, whether it is the last one, and its bytes. So no piece can be
exchanged, moved to another file or cut off unnoticed, any place of a file is reached without reading the ones before,
and memory holds one piece at a time. Plain files from before stay readable; ``manage.py rotate_picture_keys`` encrypts
them, and everything else, with the first key.
"""

import io
import os
import secrets
import struct
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.files import File
from django.core.files.storage import FileSystemStorage, default_storage

MAGIC: Final = b"\x00IRA-ENC1"
PIECE: Final = 1024 * 1024  # bytes of the plain file
_IDENTIFIER_BYTES: Final = 16
_HEAD_BYTES: Final = len(MAGIC) + _IDENTIFIER_BYTES
# Uploads that web processes are still receiving lie here, on their own disk, whatever the store is.
INCOMING: Final = "incoming"
NO_ADDRESS: Final = "Stored files have no address: they leave through views that check and record."
# What is being written has this at the end of its name, and counts as left behind after a day.
UNFINISHED: Final = ".unfinished"
_LEFT_BEHIND_AFTER_S: Final = 24 * 60 * 60
_LABEL: Final = struct.Struct(f">{_IDENTIFIER_BYTES}sQ?")


class StoredFileError(OSError, ValueError):
    """A stored file is damaged, cut short, or encrypted with a key that is not configured any more."""


def token_bytes(plain_bytes: int) -> int:
    """Return how long the token of so many bytes is (version, time, vector, padded text, signature; in base64)."""
    raw = 1 + 8 + 16 + (plain_bytes // 16 + 1) * 16 + 32
    return (raw + 2) // 3 * 4


FULL_TOKEN: Final = token_bytes(_LABEL.size + PIECE)


def key_ring(keys: list[str] | None = None) -> MultiFernet | None:
    """Return the keys of the installation, the one that encrypts first; None where nothing is encrypted.

    Raises ``ValueError`` for a key that is none.
    """
    names = settings.PICTURE_KEYS if keys is None else keys
    return MultiFernet([Fernet(key) for key in names]) if names else None


class PlacedReader(io.RawIOBase):
    """Bytes of known ``size`` that can be read from any place; a subclass brings the part at hand."""

    size: int
    _position = 0

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def seekable(self) -> bool:
        """Whether any place can be reached: yes."""
        return True

    def tell(self) -> int:
        """Return the place in the file."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place of the file."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` from the part at hand. Raises what ``_part`` raises."""
        if self._position >= self.size:
            return 0
        part = self._part(len(buffer))
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def _part(self, at_most: int) -> bytes:
        """Return some bytes, at least one, from the place on, which lies inside the file."""
        raise NotImplementedError


class EncryptedReader(PlacedReader):
    """The plain bytes of an encrypted file, seekable, one piece in memory."""

    def __init__(self, stream: BinaryIO, *, ring: MultiFernet | Fernet) -> None:
        """Take an open file that begins with ``MAGIC``. Raises ``StoredFileError`` if its end cannot be decrypted."""
        super().__init__()
        self._stream, self._ring = stream, ring
        stream.seek(len(MAGIC))
        self._identifier = stream.read(_IDENTIFIER_BYTES)
        tokens = stream.seek(0, io.SEEK_END) - _HEAD_BYTES
        if tokens <= 0:
            raise _damaged()
        self._last = (tokens - 1) // FULL_TOKEN
        self._number, self._piece = -1, b""
        self._load(self._last)
        self.size = self._last * PIECE + len(self._piece)

    def _part(self, at_most: int) -> bytes:
        """Raise ``StoredFileError`` for a piece that is not the right one."""
        number, start = divmod(self._position, PIECE)
        self._load(number)
        return self._piece[start : start + at_most]

    def close(self) -> None:
        """Close the file underneath."""
        self._stream.close()
        super().close()

    def _load(self, number: int) -> None:
        if number == self._number:
            return
        self._stream.seek(_HEAD_BYTES + number * FULL_TOKEN)
        try:
            labelled = self._ring.decrypt(self._stream.read(FULL_TOKEN))
        except InvalidToken as error:
            raise _damaged() from error
        if labelled[: _LABEL.size] != _LABEL.pack(self._identifier, number, number == self._last):
            raise _damaged()
        self._number, self._piece = number, labelled[_LABEL.size :]


class EncryptedContent(File):
    """A file on its way into the store: its chunks are the head and the tokens."""

    def __init__(self, content: File, *, ring: MultiFernet | Fernet) -> None:
        super().__init__(None, name=content.name)
        self._content, self._ring = content, ring

    def chunks(self, chunk_size: int | None = None) -> Iterator[bytes]:
        """Yield what is to be written."""
        identifier = secrets.token_bytes(_IDENTIFIER_BYTES)
        yield MAGIC + identifier
        number, piece = 0, b""
        for chunk in self._content.chunks(PIECE):
            piece += chunk.encode() if isinstance(chunk, str) else chunk
            while len(piece) > PIECE:
                yield self._ring.encrypt(_LABEL.pack(identifier, number, False) + piece[:PIECE])
                number, piece = number + 1, piece[PIECE:]
        yield self._ring.encrypt(_LABEL.pack(identifier, number, True) + piece)


class PrivateFiles(Protocol):
    """What commands ask of the private store, wherever it is, beyond what Django's stores can do."""

    def names(self) -> Iterator[str]:
        """Yield the name of every stored file; what is half written is none."""

    def raw(self, name: str) -> BinaryIO:
        """Open the bytes as they are kept, encrypted or not. Raises ``FileNotFoundError``."""

    def write_raw(self, name: str, chunks: Iterable[bytes], *, only_replace: bool = False) -> None:
        """Keep these bytes as they are, all or none of them, in the place of what has that name.

        ``only_replace``: only if a file of that name is still there when they are complete.
        """

    def changed_at(self, name: str) -> float:
        """Return when the file was written, in seconds since 1970. Raises ``FileNotFoundError``."""

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""

    def delete(self, name: str) -> None:
        """Delete a file; one that is not there is none to delete."""


def private_files() -> PrivateFiles:
    """Return the store of this installation."""
    return default_storage  # type: ignore[return-value] # STORAGES names one of the two stores


class StoredFile(File):
    """An open stored file; Django's own would open it again by its path, past the decryption."""

    def __init__(self, store: PrivateFiles, name: str) -> None:
        super().__init__(_plain_stream(store.raw(name)), name=name)
        self._store = store

    def open(self, mode: str | None = None, *args: Any, **kwargs: Any) -> Any:
        """Go back to the beginning, from the store if it was closed meanwhile."""
        if self.closed:
            self.file = _plain_stream(self._store.raw(str(self.name)))
        self.seek(0)
        return self


def to_be_kept(content: File) -> File:
    """Return the file as it is to be stored: encrypted where there are keys."""
    ring = key_ring()
    return content if ring is None else EncryptedContent(content, ring=ring)


def refuse_writing(mode: str) -> None:
    """Raise ``ValueError`` for a stored file that is to be opened for anything but reading."""
    if mode not in ("rb", "r"):
        raise ValueError(f"Stored files are read, or saved as a whole. Received: mode={mode!r}.")


class PrivateStorage(FileSystemStorage):
    """Django's store in a folder, which encrypts what it writes where there are keys, and reads both kinds."""

    def _open(self, name: str, mode: str = "rb") -> File:
        refuse_writing(mode)
        return StoredFile(self, name)

    def _save(self, name: str, content: File) -> str:
        return super()._save(name, to_be_kept(content))  # type: ignore[misc] # the stubs leave out what stores override

    def size(self, name: str) -> int:
        """Return how many bytes the plain file has."""
        with self.open(name) as file:
            return file.seek(0, io.SEEK_END)

    def url(self, name: str | None) -> str:
        """Refuse: files leave through views that check and record."""
        raise ValueError(NO_ADDRESS)

    def names(self) -> Iterator[str]:
        """Yield the name of every stored file; what is half written is none. Remove what was left so for a day."""
        root = Path(self.location)
        for path in sorted(root.rglob("*")):
            if path.is_symlink() or not path.is_file():
                continue
            name = path.relative_to(root).as_posix()
            if not (name.endswith(UNFINISHED) or name.startswith(f"{INCOMING}/")):
                yield name
            elif path.stat().st_mtime < time.time() - _LEFT_BEHIND_AFTER_S:
                path.unlink(missing_ok=True)

    def raw(self, name: str) -> BinaryIO:
        """Open the bytes as they are kept. Raises ``FileNotFoundError``."""
        return Path(self.path(name)).open("rb")

    def write_raw(self, name: str, chunks: Iterable[bytes], *, only_replace: bool = False) -> None:
        """Keep these bytes: written beside the name, then put in its place at once."""
        path = Path(self.path(name))
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}{UNFINISHED}")
        try:
            with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
                target.writelines(chunks)
                target.flush()
                os.fsync(target.fileno())
            if path.exists() or not only_replace:
                unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    def changed_at(self, name: str) -> float:
        """Return when the file was written, in seconds since 1970."""
        return Path(self.path(name)).stat().st_mtime


def is_encrypted(stream: BinaryIO) -> bool:
    """Whether an open file begins with the magic word; leaves it at its beginning."""
    stream.seek(0)
    found = stream.read(len(MAGIC)) == MAGIC
    stream.seek(0)
    return found


def _plain_stream(stream: BinaryIO) -> Any:
    try:
        if not is_encrypted(stream):
            return stream
        ring = key_ring()
        if ring is None:
            raise _damaged()
        return io.BufferedReader(EncryptedReader(stream, ring=ring))
    except BaseException:
        stream.close()
        raise


def _damaged() -> StoredFileError:
    return StoredFileError(
        "A stored file cannot be decrypted: it is damaged, or its key is not in IRA_PICTURE_KEYS any more. Please "
        "restore the key or the file."
    )
