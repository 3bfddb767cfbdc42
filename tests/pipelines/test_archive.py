"""An archive that means harm: nothing leaves the folder, nothing fills the disk, and every refusal has a reason."""

import stat
import zipfile
from pathlib import Path

import pytest

from pipelines.ingest.archive import ArchiveLimits, unpack
from pipelines.ingest.errors import ArchiveError


def make(path: Path, *, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def into(tmp_path) -> Path:
    folder = tmp_path / "deep/inside/into"
    folder.mkdir(parents=True)
    return folder


def everything_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize(
    "name",
    [
        "../evil.png",
        "a/../../evil.png",
        "/evil.png",
        "..\\evil.png",
        "C:/evil.png",
        "a\x1b[2J.png",
        "x/" * 40 + "y",
    ],
)
def test_a_name_that_leads_out_or_astray_is_not_unpacked(tmp_path, into, name):
    archive = make(tmp_path / "a.zip", members={name: b"evil", "good.png": b"good"})
    (aside,) = unpack(archive, into=into)
    assert aside.reason.endswith(".")
    assert aside.path.isprintable()
    assert everything_below(tmp_path) == {"a.zip", "deep/inside/into/good.png"}


def test_a_link_is_not_unpacked_and_nothing_is_written_through_it(tmp_path, into):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        link = zipfile.ZipInfo("door")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, str(tmp_path))
        archive.writestr("door/evil.png", b"evil")
    (aside,) = unpack(tmp_path / "a.zip", into=into)
    assert "link" in aside.reason
    assert not (into / "door").is_symlink()
    assert everything_below(tmp_path) == {"a.zip", "deep/inside/into/door/evil.png"}


def test_too_many_files_are_refused_before_the_first_is_unpacked(tmp_path, into):
    archive = make(tmp_path / "a.zip", members={f"{number}.png": b"x" for number in range(11)})
    with pytest.raises(ArchiveError, match="11 files"):
        unpack(archive, into=into, limits=ArchiveLimits(members=10))
    assert not everything_below(into)


def test_too_many_bytes_are_refused_before_the_first_is_unpacked(tmp_path, into):
    archive = make(tmp_path / "a.zip", members={"a.png": b"x" * 600, "b.png": b"x" * 600})
    with pytest.raises(ArchiveError, match="more than any set"):
        unpack(archive, into=into, limits=ArchiveLimits(total_bytes=1000))
    assert not everything_below(into)


def test_a_bomb_is_set_aside_by_its_ratio(tmp_path, into):
    archive = make(
        tmp_path / "a.zip", members={"bomb.png": b"\0" * 2_000_000, "good.png": b"g"}, method=zipfile.ZIP_DEFLATED
    )
    (aside,) = unpack(archive, into=into)
    assert aside.path == "bomb.png"
    assert everything_below(into) == {"good.png"}


def test_a_directory_that_lies_about_sizes_is_found_out(tmp_path, into):
    """The member says that it has 10 bytes and brings 5000: what is written stays within what was announced."""
    archive = make(tmp_path / "a.zip", members={"liar.png": bytes(range(250)) * 20, "good.png": b"good"})
    content = bytearray(archive.read_bytes())
    place = content.find(b"PK\x01\x02")
    assert content[place + 24 : place + 28] == (5000).to_bytes(4, "little")
    content[place + 24 : place + 28] = (10).to_bytes(4, "little")
    archive.write_bytes(content)
    aside = unpack(archive, into=into)
    assert [one.path for one in aside] == ["liar.png"]
    assert everything_below(into) == {"good.png"}


def test_a_large_member_is_set_aside(tmp_path, into):
    archive = make(tmp_path / "a.zip", members={"large.png": b"x" * 500, "good.png": b"g"})
    (aside,) = unpack(archive, into=into, limits=ArchiveLimits(member_bytes=100))
    assert "more than any slice" in aside.reason


def test_a_damaged_member_is_set_aside_and_the_others_are_taken(tmp_path, into):
    archive = make(tmp_path / "a.zip", members={"bad.png": b"BADCONTENT", "good.png": b"good"})
    archive.write_bytes(archive.read_bytes().replace(b"BADCONTENT", b"badcontent"))
    (aside,) = unpack(archive, into=into)
    assert "damaged" in aside.reason
    assert everything_below(into) == {"good.png"}


def test_an_encrypted_member_is_set_aside(tmp_path, into):
    archive = make(tmp_path / "a.zip", members={"locked.png": b"x"})
    content = bytearray(archive.read_bytes())
    content[content.find(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    (aside,) = unpack(archive, into=into)
    assert "encrypted" in aside.reason


def test_of_two_files_of_one_name_the_first_is_taken(tmp_path, into):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", b"first")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.png", b"second")
    (aside,) = unpack(tmp_path / "a.zip", into=into)
    assert "twice" in aside.reason
    assert (into / "a.png").read_bytes() == b"first"


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a")])
def test_a_file_and_a_folder_of_one_name_do_not_collide(tmp_path, into, names):
    (aside,) = unpack(make(tmp_path / "a.zip", members={name: b"x" for name in names}), into=into)
    assert aside.path == names[1]
    assert everything_below(into) == {names[0]}


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04" + b"\0" * 40, b"no archive at all"])
def test_what_is_no_archive_is_refused_in_a_sentence(tmp_path, into, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ArchiveError, match="ZIP archive"):
        unpack(tmp_path / "a.zip", into=into)


def test_a_cut_archive_is_refused(tmp_path, into):
    archive = make(tmp_path / "a.zip", members={"a.png": b"x" * 5000})
    archive.write_bytes(archive.read_bytes()[:3000])
    with pytest.raises(ArchiveError, match="Download it again"):
        unpack(archive, into=into)


def test_an_archive_within_an_archive_stays_a_file(tmp_path, into):
    inner = make(tmp_path / "inner.zip", members={"x.png": b"x"})
    unpack(make(tmp_path / "a.zip", members={"inner.zip": inner.read_bytes()}), into=into)
    assert everything_below(into) == {"inner.zip"}
