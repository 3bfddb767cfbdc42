"""Archives that nobody vouches for: what is refused before a byte is unpacked, and what when the directory lied."""

import io
import stat
import struct
import zipfile

import pytest
from pytest_django.fixtures import Settings

from studies.imports.archives import ArchiveError, list_entries, read_entries, shown_path
from studies.imports.manifest import ManifestError, read_manifest, split_name
from tests.studies.bulk import zipped


def entries(content: bytes) -> dict[str, str]:
    return {entry.name: entry.refusal for entry in list_entries(io.BytesIO(content))}


def contents(content: bytes) -> list[bytes | str]:
    stream = io.BytesIO(content)
    numbers = [entry.number for entry in list_entries(stream)]
    return [
        found if isinstance(found, bytes) else str(found)
        for found in read_entries(io.BytesIO(content), numbers=numbers)
    ]


def assert_sentence(text: str) -> None:
    assert text.endswith(".")
    assert "Please" in text


def with_entry(name: str, *, mode: int = 0, flags: int = 0) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, b"slice")
        archive.writestr("good.png", b"good")
    content = stream.getvalue()
    if flags:
        for magic, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            start = content.index(magic)
            content = content[: start + place] + struct.pack("<H", flags) + content[start + place + 2 :]
    return content


def test_files_are_listed_and_unpacked_without_their_folders() -> None:
    content = zipped({"a/": b"", "a/1.png": b"one", "2.png": b"two"})
    assert entries(content) == {"a/1.png": "", "2.png": ""}
    assert contents(content) == [b"one", b"two"]


@pytest.mark.parametrize(
    "name",
    ["../up.png", "a/../../up.png", "/etc/passwd", "C:/x.png", "..\\up.png", "\\\\server\\x.png", "C:x.png"],
)
def test_paths_that_lead_out_are_refused_and_the_rest_is_not(name: str) -> None:
    found = list_entries(io.BytesIO(with_entry(name)))
    assert "leads out" in found[0].refusal
    assert_sentence(found[0].refusal)
    assert found[1].refusal == ""
    assert contents(with_entry(name))[1] == b"good"


@pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o600, stat.S_IFCHR | 0o600])
def test_links_and_devices_are_refused(mode: int) -> None:
    assert "link or a device" in entries(with_entry("x.png", mode=mode))["x.png"]


@pytest.mark.parametrize("flags", [0x1, 0x41])
def test_encrypted_files_are_refused_with_a_sentence(flags: int) -> None:
    found = entries(with_entry("x.png", flags=flags))
    assert "encrypted" in found["x.png"]
    assert found["good.png"] == ""


@pytest.mark.parametrize("name", ["inner.zip", "inner.ZIP", "inner.tar.gz", "inner.7z"])
def test_an_archive_in_the_archive_is_refused(name: str) -> None:
    assert "inside the archive" in entries(zipped({name: b"PK"}))[name]


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_packings_are_refused(compression: int) -> None:
    assert "packed in a way" in entries(zipped({"a.png": b"x" * 999}, compression=compression))["a.png"]


def test_too_many_files_are_refused_before_anything_is_unpacked(settings: Settings) -> None:
    settings.IMPORT_MAX_FILES = 3
    for count in (4, 20):
        with pytest.raises(ArchiveError, match="at most 3") as caught:
            entries(zipped({f"{n}.png": b"x" for n in range(count)}))
        assert_sentence(str(caught.value))


def test_too_much_in_all_is_refused(settings: Settings) -> None:
    settings.IMPORT_MAX_UNPACKED_BYTES = 1000
    with pytest.raises(ArchiveError, match="split"):
        entries(zipped({"a": b"x" * 600, "b": b"x" * 600}))


def test_a_large_file_is_refused_alone(settings: Settings) -> None:
    settings.UPLOAD_MAX_BYTES = 100
    found = entries(zipped({"large": b"x" * 101, "small": b"x" * 100}))
    assert "larger than" in found["large"]
    assert found["small"] == ""


def test_a_bomb_is_refused_by_its_ratio() -> None:
    with pytest.raises(ArchiveError, match="times its size"):
        entries(zipped({"bomb": b"\0" * 5_000_000}))


def test_a_bomb_beside_large_files_is_refused_alone() -> None:
    import random

    honest = random.Random(0).randbytes(500_000)  # noqa: S311 - not for secrets
    found = entries(zipped({"bomb": b"\0" * 5_000_000, "honest": honest}))
    assert "times its size" in found["bomb"]
    assert found["honest"] == ""


def test_a_black_slice_is_no_bomb() -> None:
    assert entries(zipped({"black.dcm": b"\0" * 524_288})) == {"black.dcm": ""}


def test_a_directory_that_says_too_little_is_held_to_what_it_said() -> None:
    honest = zipped({"a.png": b"x" * 5000})
    place = honest.index(b"PK\x01\x02") + 24
    lying = honest[:place] + struct.pack("<L", 10) + honest[place + 4 :]
    (found,) = contents(lying)
    assert isinstance(found, str)
    assert_sentence(found)


def test_a_directory_that_says_too_much_is_damage() -> None:
    honest = zipped({"a.png": b"x" * 5000})
    place = honest.index(b"PK\x01\x02") + 24
    lying = honest[:place] + struct.pack("<L", 6000) + honest[place + 4 :]
    assert isinstance(contents(lying)[0], str)


def test_a_wrong_checksum_refuses_one_file_only() -> None:
    content = bytearray(zipped({"a": b"a" * 100, "b": b"b" * 100}, compression=zipfile.ZIP_STORED))
    content[content.index(b"a" * 100) + 5] = 0
    first, second = contents(bytes(content))
    assert isinstance(first, str)
    assert second == b"b" * 100


def test_overlapping_files_are_refused() -> None:
    content = zipped({"a": b"a" * 100, "b": b"b" * 100}, compression=zipfile.ZIP_STORED)
    directory = content.index(b"PK\x01\x02")
    second = content.index(b"PK\x01\x02", directory + 4)
    shared = content[: second + 42] + struct.pack("<L", 0) + content[second + 46 :]
    with pytest.raises(ArchiveError, match="overlap"):
        entries(shared)


def test_a_directory_larger_than_any_honest_one_is_not_read(settings: Settings) -> None:
    settings.IMPORT_MAX_FILES = 1
    content = zipped({"n" * 2000: b"x"})
    with pytest.raises(ArchiveError, match="list of files"):
        entries(content)


@pytest.mark.parametrize(
    "content",
    [b"PK\x03\x04", b"PK\x05\x06", b"PK\x03\x04" + b"\0" * 400, zipped({"a": b"x"})[:60]],
    ids=["start", "end", "zeros", "cut"],
)
def test_damaged_archives_get_a_sentence(content: bytes) -> None:
    with pytest.raises(ArchiveError) as caught:
        entries(content)
    assert_sentence(str(caught.value))


def test_an_empty_archive_and_an_office_document_get_a_sentence() -> None:
    for content in (zipped({}), zipped({"[Content_Types].xml": b"<x/>", "word/document.xml": b"<x/>"})):
        with pytest.raises(ArchiveError) as caught:
            entries(content)
        assert_sentence(str(caught.value))


# --- manifest ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_a_manifest_is_read_as_spreadsheets_write_it(mark: str, encoding: str) -> None:
    text = f"File{mark}Record Number{mark}Name{mark}Birth date{mark}Study_Date\r\n"
    text += f'.\\a\\1.png{mark}R-1{mark}"Müller, Zoé"{mark}05.04.1957{mark}20260115\r\n\r\n'
    (row,) = read_manifest(text.encode(encoding))
    assert (row.file, row.record_number, row.family_name, row.given_name) == ("a/1.png", "R-1", "Müller", "Zoé")
    assert (str(row.birth_date), str(row.study_date), row.refusal) == ("1957-04-05", "2026-01-15", "")


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ("a.png,,x,,", "record number is missing"),
        ("a.png,R,x,1957-13-01,", "birth date"),
        ("a.png,R,x,2999-01-01,", "birth date"),
        ("a.png,R,x,,1960-01-01", "no CT"),
        ("a.png,R,x,2020-01-01,2019-01-01", "before the birth"),
        (f"a.png,{'9' * 41},x,,", "longer than 40"),
    ],
)
def test_a_wrong_line_says_which_and_why(cells: str, expected: str) -> None:
    (row,) = read_manifest(f"file,record number,name,birth date,study date\n{cells}\n".encode())
    assert expected in row.refusal
    assert row.refusal.startswith("Line 2 ")


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"a,b\n1,2\n", b"x" * 2_000_000, b"\0\0\0", b'file,record number\n"']
)
def test_what_is_no_manifest_gets_a_sentence_or_no_lines(content: bytes) -> None:
    try:
        assert read_manifest(content) in ([], read_manifest(content))
    except ManifestError as error:
        assert_sentence(str(error))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Doe, Jane", ("Doe", "Jane")),
        ("Jane Doe", ("Doe", "Jane")),
        ("Doe^Jane^M", ("Doe", "Jane M")),
        ("Doe", ("Doe", "")),
        ("", ("", "")),
    ],
)
def test_names_are_split_as_people_write_them(name: str, expected: tuple[str, str]) -> None:
    assert split_name(name) == expected


def test_a_path_that_is_cut_for_people_begins_with_a_name() -> None:
    shown = shown_path("a/" * 400 + "good.png")
    assert len(shown) <= 255
    assert not shown.startswith("/")
    assert shown.endswith("a/good.png")
