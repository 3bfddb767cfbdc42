"""ZIP archives and manifests that nobody would send by mistake, made anew from one seed each time."""

import random
import stat
import struct
import zipfile
from collections.abc import Iterator
from io import BytesIO

from tests.factories import slice_png
from tests.hostile.corpus import NAMES, SEED, HostileFile, png
from tests.studies.bulk import zipped

GOOD = slice_png(seed=900)
OTHER = slice_png(seed=901)
MANIFEST = b"file,record number,name,birth date,study date\ngood.png,R-1,Zoe Novak,1960-05-17,2026-01-15\n"
LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"


def archives() -> list[HostileFile]:
    """Return the archives, the same each time."""
    chance = random.Random(SEED)  # noqa: S311 - repeatable on purpose
    found = [*_damaged(chance), *_lying(), *_bombs(), *_named(), *_kinds(), *_nested(), *_polyglots()]
    return [
        HostileFile(label=f"{place}: {label}", content=content, name=f"{place}.zip")
        for place, (label, content) in enumerate(found)
    ]


def manifests() -> list[HostileFile]:
    """Return the manifests, the same each time."""
    chance = random.Random(SEED)  # noqa: S311 - repeatable on purpose
    found = [*_encoded(), *_tables(), *_cells(chance)]
    return [
        HostileFile(label=f"{place}: {label}", content=content, name="manifest.csv")
        for place, (label, content) in enumerate(found)
    ]


# --- archives ---------------------------------------------------------------------------------------------------------


def sound_archive() -> bytes:
    """Return an archive of two slices, a folder and a manifest."""
    return zipped({"good.png": GOOD, "folder/": b"", "folder/other.png": OTHER, "manifest.csv": MANIFEST})


def _damaged(chance: random.Random) -> Iterator[tuple[str, bytes]]:
    sound = sound_archive()
    size, directory = len(sound), sound.index(CENTRAL)
    for place in (4, 22, 30, 60, directory - 1, directory + 4, directory + 46, size - 22, size - 5, size - 1):
        yield f"cut at {place}", sound[:place]
    for number in range(24):
        flipped = bytearray(sound)
        start = 0 if number % 3 == 0 else directory
        for _ in range(1 << (number % 6)):
            flipped[chance.randrange(start, size)] ^= 1 << chance.randrange(8)
        yield f"flipped {number}", bytes(flipped)
    yield "with bytes before it", b"\x00" * 777 + sound
    yield "with a tail", sound + b"\x00" * 70_000
    yield "with a remark of 65,535 bytes", sound[:-2] + b"\xff\xff" + b"x" * 65_535
    yield "remark longer than the file", sound[:-2] + b"\xff\xff"
    yield "twice", sound + sound
    yield "directory only", sound[directory:]
    yield "end record only", sound[-22:]
    yield "empty archive", END + bytes(18)


def _changed(place: int, value: bytes, *, magic: bytes = CENTRAL) -> bytes:
    """Return the sound archive with other bytes in the first record of a kind."""
    content = bytearray(sound_archive())
    start = content.rindex(magic) if magic == END else content.index(magic)
    content[start + place : start + place + len(value)] = value
    return bytes(content)


def _lying() -> Iterator[tuple[str, bytes]]:
    for name, place in (("packed size", 20), ("unpacked size", 24), ("checksum", 16), ("place", 42)):
        for value in (0, 1, 0x7FFFFFFF, 0xFFFFFFFF):
            yield f"directory's {name} is {value}", _changed(place, struct.pack("<I", value))
    for name, place in (("name's length", 28), ("extra's length", 30), ("remark's length", 32), ("disk", 34)):
        for value in (1, 0x7FFF, 0xFFFF):
            yield f"directory's {name} is {value}", _changed(place, struct.pack("<H", value))
    for name, place in (("name's length", 26), ("extra's length", 28)):
        for value in (0, 0xFFFF):
            yield f"file's {name} is {value}", _changed(place, struct.pack("<H", value), magic=LOCAL)
    for value in (0, 1, 4000, 4001, 0xFFFF):
        yield f"end counts {value} files", _changed(8, struct.pack("<HH", value, value), magic=END)
    for name, place in (("size", 12), ("place", 16)):
        for value in (0, 1, 0x7FFFFFFF, 0xFFFFFFFF):
            yield f"end's {name} is {value}", _changed(place, struct.pack("<I", value), magic=END)
    for method in (1, 6, 9, 12, 14, 93, 95, 98, 99, 0xFFFF):
        yield f"method {method}", _changed(10, struct.pack("<H", method))
    for version in (0, 45, 63, 255):
        yield f"needs version {version}", _changed(6, struct.pack("<H", version))
    for flags in (0x1, 0x8, 0x20, 0x40, 0x41, 0x800, 0x2000, 0xFFFF):
        yield f"flags {flags:x} in the directory", _changed(8, struct.pack("<H", flags))
        yield f"flags {flags:x} at the file", _changed(6, struct.pack("<H", flags), magic=LOCAL)
    for moment in (0, 0xFFFFFFFF):
        yield f"time {moment:x}", _changed(12, struct.pack("<I", moment))
    for extra in (b"\x01\x00", b"\x01\x00\xff\xff", b"\x01\x00\x08\x00" + b"\xff" * 8, b"\x75\x70\x01\x00\x00"):
        yield f"extra {extra[:4].hex()}", _with_info("good.png", extra=extra)
    locator = b"PK\x06\x07" + struct.pack("<LQL", 0, 2**63, 1)
    sound = sound_archive()
    yield "locator that points nowhere", sound[:-22] + locator + sound[-22:]
    record = b"PK\x06\x06" + struct.pack("<QHHLLQQQQ", 44, 45, 45, 0, 0, 2**62, 2**62, 2**62, 0)
    yield (
        "large record of endless counts",
        (sound[:-22] + record + b"PK\x06\x07" + struct.pack("<LQL", 0, len(sound) - 22, 1) + sound[-22:]),
    )


def _with_info(name: str, *, mode: int = 0, extra: bytes = b"", content: bytes = GOOD) -> bytes:
    """Return an archive of two files, the first of this name, kind and extra field, as no library would write it."""
    called = name.encode()
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo("x" * len(called))
        info.external_attr = mode << 16
        archive.writestr(info, content)
        archive.writestr("other.png", OTHER)
    changed = bytearray(stream.getvalue())
    directory = struct.unpack_from("<I", changed, changed.rindex(END) + 16)[0]
    for start in (30, directory + 46):
        changed[start : start + len(called)] = called
    if extra:
        struct.pack_into("<H", changed, directory + 30, len(extra))
        last = changed.rindex(END)
        size = struct.unpack_from("<I", changed, last + 12)[0]
        struct.pack_into("<I", changed, last + 12, size + len(extra))
        place = directory + 46 + len(called)
        changed[place:place] = extra
    return bytes(changed)


def _bombs() -> Iterator[tuple[str, bytes]]:
    zeros = bytes(60_000_000)
    yield "60 MB of zeros", zipped({"zeros.png": zeros})
    yield "twelve times 15 MB of zeros", zipped({f"{n}.png": zeros[:15_000_000] for n in range(12)})
    small = bytearray(zipped({"zeros.png": zeros[:18_000_000]}))
    struct.pack_into("<I", small, small.index(CENTRAL) + 24, 900_000)
    struct.pack_into("<I", small, 22, 900_000)
    yield "18 MB that say they are 900 KB", bytes(small)
    yield "a bomb behind a picture", zipped({"good.png": GOOD * 40, "zeros.png": zeros[:18_000_000]})
    yield "3,000 files", zipped({f"{n}.png": b"" for n in range(3000)})
    yield "9,000 folders", zipped({f"{n}/": b"" for n in range(9000)})
    yield "files that overlap", _overlapping()
    yield "a picture of 900 million pixels", zipped({"large.png": _huge_picture()})


def _huge_picture() -> bytes:
    return png(width=30_000, height=30_000, data=b"x" * 500)


def _overlapping() -> bytes:
    """Return an archive whose thirty entries are the same bytes."""
    content = zipped({"good.png": GOOD})
    start, end = content.index(CENTRAL), content.rindex(END)
    entry = content[start:end]
    directory = b"".join(entry.replace(b"good.png", f"g{number:03}.png".encode()) for number in range(30))
    tail = struct.pack("<4sHHHHIIH", END, 0, 0, 30, 30, len(directory), start, 0)
    return content[:start] + directory + tail


def _named() -> Iterator[tuple[str, bytes]]:
    for name in (
        *NAMES,
        "a/../../../good.png",
        "./../good.png",
        "....//good.png",
        "//server/share/good.png",
        "/proc/self/environ",
        "folder\\..\\..\\good.png",
        "\x1b[2Jgood.png",
        "\x7f.png",
        "a/" * 400 + "good.png",
        "good.png\n\r\nContent-Type: text/html",
        "\u202e\u2066\u200fgood.png",
        "NUL.png",
        "aux",
        "__MACOSX/._good.png",
        ".DS_Store",
        "[Content_Types].xml",
        "manifest.csv/good.png",
        "manifest.csv",
    ):
        yield f"named {name[:40]!r}", _with_info(name)
    yield "a name that is no UTF-8", sound_archive().replace(b"good.png", b"g\xff\xfed.png")
    yield "one name for two files", sound_archive().replace(b"folder/other.png", b"////////good.png")


def _kinds() -> Iterator[tuple[str, bytes]]:
    for kind in (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK, stat.S_IFDIR, 0xF000):
        yield f"kind {kind:o}", _with_info("good.png", mode=kind | 0o777, content=b"/etc/passwd")
    yield "a link to a folder above", _with_info("up", mode=stat.S_IFLNK | 0o777, content=b"../../../..")
    yield "a folder with content", _with_info("folder/", content=GOOD)


def _nested() -> Iterator[tuple[str, bytes]]:
    content = sound_archive()
    for depth in range(1, 5):
        content = zipped({"inner.zip": content})
        yield f"nested {depth} times", content
    yield "nested under the name of a picture", zipped({"inner.png": sound_archive()})
    yield "nested under the name of a manifest", zipped({"manifest.csv": sound_archive()})
    for name in ("a.tar.gz", "a.7z", "a.rar", "a.xz"):
        yield f"a file called {name}", zipped({name: GOOD})


def _polyglots() -> Iterator[tuple[str, bytes]]:
    sound = sound_archive()
    yield "picture, then archive", GOOD + sound
    yield "archive, then picture", sound + GOOD
    yield "PDF, then archive", b"%PDF-1.7\n%%EOF\n" + sound
    yield "archive with the head of another", LOCAL + b"<script>alert(1)</script>" + sound
    for member in ("word/document.xml", "META-INF/MANIFEST.MF", "AndroidManifest.xml", "xl/vbaProject.bin"):
        yield f"holds {member}", zipped({"[Content_Types].xml": b"<x/>", member: b"<script>alert(1)</script>"})
    page = b"<script>alert(1)</script>"
    yield "web pages as pictures", zipped({"a.png": page, "b.jpg": page, "c.dcm": page, "d.svg": b"<svg>" + page})


# --- manifests --------------------------------------------------------------------------------------------------------


def _encoded() -> Iterator[tuple[str, bytes]]:
    text = MANIFEST.decode().replace("Zoe Novak", "Zoë Nováková")
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "cp037", "utf-7"):
        yield f"in {encoding}", text.encode(encoding, "replace")
    yield "UTF-8 cut in a letter", text.encode()[: text.encode().index("ë".encode()) + 1]
    yield "lone surrogates", MANIFEST.replace(b"Zoe", b"\xed\xa0\x80")
    yield "overlong slash", MANIFEST.replace(b"good.png", b"..\xc0\xafgood.png")
    yield "two byte order marks", b"\xef\xbb\xbf\xef\xbb\xbf" + MANIFEST


def _tables() -> Iterator[tuple[str, bytes]]:
    header, row = MANIFEST.strip().split(b"\n")
    yield "empty", b""
    yield "blank lines", b"\n\r\n  \n,,,,\n"
    yield "header only", header
    yield "no header", row
    yield "NULs throughout", b"\x00".join(bytes([byte]) for byte in MANIFEST)
    yield "NULs only", bytes(5000)
    yield "each column twice", header + b"," + header + b"\n" + row + b"," + row
    yield "one column forty times", b"file," * 40 + b"record number\n" + b"good.png," * 40 + b"R-1"
    yield "5,000 columns", header + b",x" * 5000 + b"\n" + row + b",y" * 5000
    yield "5,000 lines", header + (b"\n" + row) * 5000
    yield "500,000 line ends", header + b"\n" * 500_000
    yield "just over 1 MB", header + b"\n" + b"x" * (1024 * 1024)
    yield "old line ends", MANIFEST.replace(b"\n", b"\r")
    yield "a quotation without an end", header + b'\n"good.png,R-1'
    yield "400,000 quotation marks", header + b"\n" + b'"' * 400_001
    for mark in (b";", b"\t", b"|", b"\x1f", b"^"):
        yield f"between columns {mark!r}", MANIFEST.replace(b",", mark)
    yield "lines of different length", header + b"\ngood.png\ngood.png,R-1,,,,,,,,\n,\n"
    yield "a picture called a manifest", GOOD


def _cells(chance: random.Random) -> Iterator[tuple[str, bytes]]:
    header = MANIFEST.split(b"\n")[0]

    def line(*cells: str) -> bytes:
        quoted = ",".join('"' + cell.replace('"', '""') + '"' for cell in cells)
        return header + b"\n" + quoted.encode("utf-8", "surrogatepass")

    for formula in ("=cmd|'/c calc'!A1", "+1+1", "-2+3", "@SUM(A1)", '=HYPERLINK("http://x.example","x")', "\t=1"):
        yield f"formula {formula[:12]!r}", line("good.png", formula, formula, "1960-05-17", "2026-01-15")
    for text in (
        "<script>alert(1)</script>",
        "' OR 1=1 --",
        "{{ 7*7 }}",
        "\u202eR-1",
        "R-1\nR-2",
        "R\x00-1",
        "R" * 41,
        "R" * 140_000,
        "\U0001f9a0" * 40,
        "İ" * 40,
        "%s%n",
    ):
        yield f"record number {text[:20]!r}", line("good.png", text, text, "1960-05-17", "2026-01-15")
        yield f"name {text[:20]!r}", line("good.png", "R-77", text, "1960-05-17", "2026-01-15")
    for date in (
        "0000-00-00",
        "9999-12-31",
        "1960-02-30",
        "-1-1-1",
        "1960-05-17T00:00",
        "٢٠٢٦-01-01",
        "9" * 500,
        "NaN",
        "0001-01-01",
    ):
        yield f"born on {date[:12]}", line("good.png", "R-77", "Zoe Novak", date, "2026-01-15")
        yield f"taken on {date[:12]}", line("good.png", "R-77", "Zoe Novak", "1960-05-17", date)
    for path in ("../good.png", "/etc/passwd", "C:\\good.png", "*", "good.png/", "GOOD.PNG", "", "a" * 5000):
        yield f"about the file {path[:20]!r}", line(path, "R-1", "Zoe Novak", "1960-05-17", "2026-01-15")
    for number in range(12):
        flipped = bytearray(MANIFEST)
        for _ in range(1 << (number % 5)):
            flipped[chance.randrange(len(flipped))] = chance.randrange(256)
        yield f"flipped {number}", bytes(flipped)
