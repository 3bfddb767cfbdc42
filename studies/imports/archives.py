"""Reads ZIP archives that nobody vouches for: every limit is checked in the directory before a byte is unpacked, and
held again while unpacking, because directories lie.
"""

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

from django.conf import settings

# A worker stores these sentences in English; studies.sentences translates them for whoever reads.
from django.utils.translation import gettext_noop as _

from studies.errors import IntakeError
from studies.intake import clean_file_name

ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
# Slices shrink to a half or a quarter of their size, black borders included; text to a tenth.
MAX_RATIO = 100
# What is small is no bomb, whatever its ratio: a manifest of equal lines, a flag, a black thumbnail.
HARMLESS_BYTES = 1024 * 1024
# Room in the directory for the path and the remarks of each file.
DIRECTORY_BYTES_A_FILE = 1024
LONGEST_PATH = 1024
ARCHIVE_SUFFIXES = (".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz")
DAMAGED = _("The archive is damaged or cut short. Please make it again and upload the new one.")
DAMAGED_ENTRY = _("It is damaged inside the archive. Please make the archive again and upload the new one.")
NESTED = _("It is an archive inside the archive. Please unpack it and send its slices.")
TOO_MANY = _("The archive holds %(count)d files; at most %(limit)d are accepted at a time. Please split it.")
TOO_LARGE = _("Unpacked the archive would have %(megabytes)d MB; at most %(limit)d MB are accepted. Please split it.")
BOMB = _(
    "The archive unfolds to more than %(ratio)d times its size, which no slices do. Please check where it comes from."
)
ENTRY_TOO_LARGE = _(
    "Unpacked it would be larger than the %(megabytes)d MB that are accepted for one slice. Please export the slice as "
    "an 8-bit PNG or JPEG."
)
ENTRY_BOMB = _(
    "It unfolds to more than %(ratio)d times its size, which no slice does. Please check where it comes from."
)
SENTENCES = (TOO_MANY, TOO_LARGE, BOMB, ENTRY_TOO_LARGE, ENTRY_BOMB)


class ArchiveError(IntakeError):
    """An archive as a whole, or one file in it, is refused."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file in an archive: its number in the directory, its path for people, and why it is refused (or empty)."""

    number: int
    name: str
    refusal: str


def is_archive(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a ZIP archive."""
    return head.startswith(ZIP_MAGIC)


def list_entries(stream: IO[bytes]) -> list[Entry]:
    """Return the files of an archive, in its order, without unpacking any.

    Raises ``ArchiveError`` with a sentence for an archive that is refused as a whole: damaged, too many files, too
    large when unpacked, or packed so tightly that it can only be a bomb.
    """
    with _opened(stream) as archive:
        infos = archive.infolist()
        files = [(number, info) for number, info in enumerate(infos) if not info.is_dir()]
        _check_whole([info for _, info in files])
        return [Entry(number=number, name=shown_path(info.filename), refusal=_refusal(info)) for number, info in files]


def read_entries(stream: IO[bytes], *, numbers: list[int]) -> Iterator[bytes | ArchiveError]:
    """Unpack some files of an archive, one after the other: the bytes of each, or why it cannot be had.

    Never more is unpacked than the directory says and the limit allows.
    """
    with _opened(stream) as archive:
        infos = archive.infolist()
        for number in numbers:
            info = infos[number]
            if refusal := _refusal(info):
                yield ArchiveError(refusal)
                continue
            try:
                with archive.open(info) as packed:
                    content = packed.read(settings.UPLOAD_MAX_BYTES + 1)
            except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError):
                yield ArchiveError(DAMAGED_ENTRY)
                continue
            yield content if len(content) == info.file_size else ArchiveError(DAMAGED_ENTRY)


@contextmanager
def _opened(stream: IO[bytes]) -> Iterator[zipfile.ZipFile]:
    _check_directory(stream)
    try:
        archive = zipfile.ZipFile(stream)
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, struct.error, UnicodeDecodeError) as error:
        raise ArchiveError(DAMAGED) from error
    with archive:
        yield archive


def _check_directory(stream: IO[bytes]) -> None:
    """Refuse a directory that is too large to be read into memory, whatever number of files it claims.

    Source: PKWARE APPNOTE 4.3.14 to 4.3.16 (end records); ``zipfile`` reads as many bytes as the end record names.
    """
    size = stream.seek(0, 2)
    tail_start = max(0, size - 65_557 - 20)
    stream.seek(tail_start)
    tail = stream.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + 22:
        raise ArchiveError(DAMAGED)
    count, directory_bytes = struct.unpack_from("<HL", tail, end + 10)
    locator = end - 20
    if locator >= 0 and tail.startswith(b"PK\x06\x07", locator):
        place = int(struct.unpack_from("<Q", tail, locator + 8)[0])
        # A remark before the archive shifts everything; the end record then lies right before its locator.
        for start in (place, tail_start + locator - 56):
            if 0 <= start <= size - 56:
                stream.seek(start)
                record = stream.read(56)
                if record.startswith(b"PK\x06\x06"):
                    count, directory_bytes = struct.unpack_from("<QQ", record, 32)
                    break
        else:
            raise ArchiveError(DAMAGED)
    stream.seek(0)
    _check_count(count)
    if directory_bytes > settings.IMPORT_MAX_FILES * DIRECTORY_BYTES_A_FILE:
        raise ArchiveError(
            _(
                "The archive's list of files is larger than any that is honest. Please pack it again as an ordinary "
                "ZIP archive."
            )
        )


def _check_count(count: int) -> None:
    # Folders are listed too; nobody has more of them than files.
    if count > 2 * settings.IMPORT_MAX_FILES:
        raise ArchiveError(TOO_MANY % {"count": count, "limit": settings.IMPORT_MAX_FILES})


def _check_whole(infos: list[zipfile.ZipInfo]) -> None:
    if not infos:
        raise ArchiveError(_("The archive is empty. Please choose the archive that holds the slices."))
    if len(infos) > settings.IMPORT_MAX_FILES:
        raise ArchiveError(TOO_MANY % {"count": len(infos), "limit": settings.IMPORT_MAX_FILES})
    unpacked = sum(info.file_size for info in infos)
    if unpacked > settings.IMPORT_MAX_UNPACKED_BYTES:
        raise ArchiveError(
            TOO_LARGE
            % {
                "megabytes": round(unpacked / 1024**2),
                "limit": round(settings.IMPORT_MAX_UNPACKED_BYTES / 1024**2),
            }
        )
    packed = sum(info.compress_size for info in infos)
    if unpacked > HARMLESS_BYTES and unpacked > MAX_RATIO * packed:
        raise ArchiveError(BOMB % {"ratio": MAX_RATIO})
    names = {info.filename for info in infos}
    if "[Content_Types].xml" in names:
        raise ArchiveError(
            _("This is an office document, not an archive of slices. Please choose the slices themselves.")
        )
    # Entries that share their bytes are how a small archive unfolds without end.
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise ArchiveError(
                _(
                    "Files in the archive overlap, which no honest archive does. Please pack it again as an ordinary "
                    "ZIP archive."
                )
            )
        end = info.header_offset + 30 + info.compress_size


def _refusal(info: zipfile.ZipInfo) -> str:
    """Say why one file of an archive is not unpacked; empty where it is."""
    name = info.orig_filename.replace("\\", "/")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if name.startswith("/") or name[1:3] == ":/" or name[1:2] == ":" or ".." in name.split("/"):
        return _(
            "Its path leads out of the archive's own folder, so it is not unpacked. Please pack the slices with plain "
            "names."
        )
    if "\0" in name or len(name) > LONGEST_PATH:
        return _(
            "Its name is no name of a file, so it is not unpacked. Please pack it again as an ordinary ZIP archive."
        )
    if kind not in (0, stat.S_IFREG):
        return _("It is a link or a device, not a file, so it is not unpacked. Please pack the slice itself.")
    if info.flag_bits & 0x41:
        return _("It is encrypted, so it cannot be read. Please pack the slices without a password.")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return _("It is packed in a way that is not unpacked here. Please pack it again as an ordinary ZIP archive.")
    if info.file_size > settings.UPLOAD_MAX_BYTES:
        return ENTRY_TOO_LARGE % {"megabytes": round(settings.UPLOAD_MAX_BYTES / 1024**2)}
    if info.file_size > HARMLESS_BYTES and info.file_size > MAX_RATIO * max(info.compress_size, 1):
        return ENTRY_BOMB % {"ratio": MAX_RATIO}
    if name.lower().endswith(ARCHIVE_SUFFIXES):
        return NESTED
    return ""


def shown_path(name: str) -> str:
    """The path with every part cleaned, for people and for the manifest; never used to open a file."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", ".")]
    return "/".join(".." if part == ".." else clean_file_name(part) for part in parts)[-255:].lstrip("/") or "file"
