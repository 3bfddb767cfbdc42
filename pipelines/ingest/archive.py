"""Unpacks a ZIP archive that nobody vouches for.

Count and sizes are checked from the directory before anything is unpacked, and again while the bytes come, because a
directory can lie. No member is ever written outside the target folder; what is not taken is listed with the reason.
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipelines.ingest.errors import ArchiveError
from pipelines.ingest.pictures import SetAside

CHUNK_BYTES = 1 << 20
LONGEST_NAME_BYTES = 240
DEEPEST_FOLDERS = 16
ENCRYPTED_FLAG = 0x1
TAKEN_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_MEMBER_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError)


@dataclass(frozen=True)
class ArchiveLimits:
    """More than any set of slices has: the whole archive is refused beyond `members` and `total_bytes`."""

    members: int = 100_000
    total_bytes: int = 8 * 1024**3
    member_bytes: int = 64 * 1024**2
    # Deflate cannot do better than about 1030; pictures are compressed already.
    ratio: int = 200


DEFAULT_ARCHIVE_LIMITS = ArchiveLimits()


def unpack(archive: Path, *, into: Path, limits: ArchiveLimits = DEFAULT_ARCHIVE_LIMITS) -> tuple[SetAside, ...]:
    """Unpack every regular member of `archive` below `into`; return the members that were not taken, and why.

    Raises ArchiveError where the file is no ZIP archive, is damaged as a whole, or exceeds `limits`.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            _check_totals(archive, members=members, limits=limits)
            return _unpack_members(opened, members=members, into=into, limits=limits)
    except zipfile.BadZipFile as error:
        raise ArchiveError(
            f"{archive.name} is no ZIP archive or is damaged: {error}. Download it again, or unpack it yourself and "
            "name the folder."
        ) from error
    except OSError as error:
        raise ArchiveError(
            f"{archive} cannot be unpacked: {error}. Check the path, the space and the rights."
        ) from error


def _check_totals(archive: Path, *, members: list[zipfile.ZipInfo], limits: ArchiveLimits) -> None:
    total = sum(member.file_size for member in members)
    if len(members) > limits.members or total > limits.total_bytes:
        raise ArchiveError(
            f"{archive.name} holds {len(members)} files of {total / 1024**3:.1f} GB in all, more than any set of "
            f"slices ({limits.members} files, {limits.total_bytes / 1024**3:.0f} GB). It was not unpacked. Name an "
            "archive of the data set alone."
        )


def _unpack_members(
    opened: zipfile.ZipFile, *, members: list[zipfile.ZipInfo], into: Path, limits: ArchiveLimits
) -> tuple[SetAside, ...]:
    set_aside: list[SetAside] = []
    taken: set[PurePosixPath] = set()
    folders: set[PurePosixPath] = set()
    left = limits.total_bytes
    for member in members:
        name = shown(member.filename)
        reason = _reason_against(member, limits=limits)
        path = PurePosixPath(member.filename)
        if not reason and path in taken:
            reason = "The archive holds a file of this name twice; the first one was taken."
        if not reason and (path in folders or any(parent in taken for parent in path.parents)):
            reason = "The archive holds a file and a folder of this name."
        if reason:
            set_aside.append(SetAside(path=name, reason=reason))
            continue
        target = into / path
        try:
            left -= _write(opened, member=member, target=target, limit=min(limits.member_bytes, left))
        except _MEMBER_ERRORS as error:
            target.unlink(missing_ok=True)
            if isinstance(error, OSError) and not isinstance(error, zipfile.BadZipFile):
                raise
            set_aside.append(SetAside(path=name, reason=f"The archive's copy is damaged: {error}"))
            continue
        taken.add(path)
        folders.update(path.parents)
    return tuple(set_aside)


def _reason_against(member: zipfile.ZipInfo, *, limits: ArchiveLimits) -> str:
    name = member.filename
    path = PurePosixPath(name)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "It is a link or a device, not a file."
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or ":" in path.parts[0]:
        return "Its name leads out of the archive, so it was not unpacked."
    if not name.isprintable():
        return "Its name holds characters that cannot be printed."
    if len(path.parts) > DEEPEST_FOLDERS or any(len(part.encode()) > LONGEST_NAME_BYTES for part in path.parts):
        return "Its name is too long or lies too deep in folders."
    if member.flag_bits & ENCRYPTED_FLAG:
        return "It is encrypted. Unpack the archive yourself and name the folder."
    if member.compress_type not in TAKEN_METHODS:
        return "It is packed in a way that is not read here. Unpack the archive yourself and name the folder."
    if member.file_size > limits.member_bytes:
        return f"It has {member.file_size / 1024**2:.0f} MB, more than any slice."
    if member.file_size > limits.ratio * max(member.compress_size, 1024):
        return "It grows more than a picture can when unpacked."
    return ""


def _write(opened: zipfile.ZipFile, *, member: zipfile.ZipInfo, target: Path, limit: int) -> int:
    """Copy one member piece by piece; return its bytes. Raises ValueError when it is larger than it said."""
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with opened.open(member) as source, target.open("xb") as file:
        while chunk := source.read(CHUNK_BYTES):
            written += len(chunk)
            if written > limit:
                raise ValueError("it holds more bytes than the archive says.")
            file.write(chunk)
    return written


def shown(name: str) -> str:
    """Return a member's name as it can be printed and stored."""
    return name.encode("unicode_escape").decode() if not name.isprintable() else name
