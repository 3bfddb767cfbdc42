"""How the parts of a backup are written and read: piece by piece, hashed, and encrypted where there is a passphrase."""

import base64
import hashlib
import io
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from django.core.files import File

from portal.storage import PIECE, EncryptedContent, EncryptedReader, StoredFileError

SHORTEST_PASSPHRASE: Final = 16  # characters
_CHECK: Final = b"the passphrase is the one"
# scrypt, RFC 7914: 64 MB and about a quarter of a second for each guess.
_COST: Final = 2**16


class BackupError(Exception):
    """Something about a backup is not as it must be; the message says what, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file of a backup: its path in the folder, and length and SHA-256 of what was copied."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Seal:
    """The key of a backup, or none, and what tells later whether a passphrase is the right one."""

    ring: Fernet | None
    salt: str = ""
    check: str = ""

    @classmethod
    def new(cls, passphrase: str) -> "Seal":
        """Make a seal; an empty passphrase encrypts nothing. Raises ``BackupError`` for one that is too short."""
        if not passphrase:
            return cls(ring=None)
        if len(passphrase) < SHORTEST_PASSPHRASE:
            raise BackupError(f"IRA_BACKUP_PASSPHRASE is too short: at least {SHORTEST_PASSPHRASE} characters.")
        salt = secrets.token_bytes(16)
        ring = _ring(passphrase, salt=salt)
        return cls(ring=ring, salt=salt.hex(), check=ring.encrypt(_CHECK).decode())

    @classmethod
    def known(cls, passphrase: str, *, salt: str, check: str) -> "Seal":
        """Return the seal of a backup that exists. Raises ``BackupError`` for a wrong passphrase, or for none."""
        if not passphrase:
            raise BackupError("This backup is encrypted. Please set IRA_BACKUP_PASSPHRASE to the passphrase it has.")
        ring = _ring(passphrase, salt=bytes.fromhex(salt))
        try:
            ring.decrypt(check.encode())
        except InvalidToken as error:
            raise BackupError("IRA_BACKUP_PASSPHRASE is not the passphrase of this backup.") from error
        return cls(ring=ring, salt=salt, check=check)


def write_part(folder: Path, path: str, chunks: Iterable[bytes], *, seal: Seal) -> Part:
    """Write one file of a backup and return what it is. Whatever goes wrong, the caller throws the folder away."""
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    digest, length = hashlib.sha256(), 0

    def counted() -> Iterator[bytes]:
        nonlocal length
        for chunk in chunks:
            digest.update(chunk)
            length += len(chunk)
            yield chunk

    kept = counted() if seal.ring is None else EncryptedContent(_Chunks(counted()), ring=seal.ring).chunks()
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.writelines(kept)
        stream.flush()
        os.fsync(stream.fileno())
    return Part(path=path, bytes=length, sha256=digest.hexdigest())


def read_part(folder: Path, path: str, *, seal: Seal) -> Iterator[bytes]:
    """Yield the bytes that were copied. Raises ``BackupError`` for a file that is missing or damaged."""
    try:
        with _opened(folder / path, seal=seal) as stream:
            yield from iter(lambda: stream.read(PIECE), b"")
    except FileNotFoundError as error:
        raise BackupError(f"{path} is missing from the backup.") from error
    except StoredFileError as error:
        raise BackupError(f"{path} of the backup is damaged.") from error


def is_sound(folder: Path, part: Part, *, seal: Seal) -> bool:
    """Whether a file of the backup is there and is what was copied."""
    digest, length = hashlib.sha256(), 0
    try:
        for chunk in read_part(folder, part.path, seal=seal):
            digest.update(chunk)
            length += len(chunk)
    except BackupError:
        return False
    return (length, digest.hexdigest()) == (part.bytes, part.sha256)


@contextmanager
def _opened(path: Path, *, seal: Seal) -> Iterator[BinaryIO]:
    with path.open("rb") as raw:
        yield raw if seal.ring is None else io.BufferedReader(EncryptedReader(raw, ring=seal.ring))


def _ring(passphrase: str, *, salt: bytes) -> Fernet:
    key = Scrypt(salt=salt, length=32, n=_COST, r=8, p=1).derive(passphrase.encode())
    return Fernet(base64.urlsafe_b64encode(key))


class _Chunks(File):
    """Chunks that are asked for once, as something that has ``chunks()``."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        super().__init__(None, name="part")
        self._given = chunks

    def chunks(self, chunk_size: int | None = None) -> Iterator[bytes]:
        """Yield them."""
        return self._given
