"""More than a thousand files that nobody would send by mistake, made anew from one seed each time.

Each is named after what is wrong with it, so that a failure can be found again: ``corpus()`` always gives the same.
"""

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from tests.dicom_files import JPEG_LOSSLESS, dicom

SEED = 20_261_123
RLE, JPEG_LS, JPEG_2000 = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"

# What a browser, or somebody who writes requests by hand, may call a file.
NAMES = (
    "../../../../etc/cron.d/slice.png",
    "..\\..\\windows\\system32\\slice.png",
    "/etc/passwd",
    "C:\\slice.png",
    "slice.png\r\nX-Injected: yes",
    "slice\n.png",
    "slice.png\x00.exe",
    "\u202egnp.exe",
    "\u200f\u2066slice\u2069.png",
    "<script>alert(1)</script>.png",
    '"><img src=x onerror=alert(1)>.png',
    "{{ 7*7 }}{% debug %}.png",
    "%2e%2e%2fslice.png",
    "=cmd|'/c calc'!A1.png",
    "$(touch x).png",
    "`id`.png",
    "con.png",
    ".htaccess",
    ".",
    "..",
    " ",
    "a" * 600 + ".png",
    "\U0001f9a0" * 90 + ".png",
    "é\u0301\u0327.png",
    "slice.png/",
    "\ufeffslice.png",
    "\ud83d.png".encode("utf-16", "surrogatepass").decode("utf-16", "replace"),
)


@dataclass(frozen=True, kw_only=True)
class HostileFile:
    """One file of the corpus: what is wrong with it, its bytes, and the name it is sent under."""

    label: str
    content: bytes
    name: str


def corpus() -> list[HostileFile]:
    """Return all files, the same each time."""
    chance = random.Random(SEED)  # noqa: S311 - repeatable on purpose
    found = [*_damaged(chance), *_lying_png(), *_lying_jpeg(), *_lying_dicom(), *_bombs(), *_polyglots(), *_odd()]
    return [
        HostileFile(label=label, content=content, name=NAMES[place % len(NAMES)])
        for place, (label, content) in enumerate(found)
    ]


def _picture(mode: str, *, side_px: int = 80) -> Image.Image:
    grey = np.random.default_rng(1).integers(0, 256, (side_px, side_px), dtype=np.uint8)
    if mode == "I;16":
        return Image.fromarray(grey.astype(np.uint16) * 257)
    return Image.fromarray(grey).convert(mode)


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """Return a picture as the bytes of a file."""
    stream = io.BytesIO()
    picture.save(stream, format=kind, **options)
    return stream.getvalue()


def sound_files() -> dict[str, bytes]:
    """Return one sound file of each kind that is accepted, and of some that are not."""
    values = (np.arange(80 * 96).reshape(80, 96) % 3000).astype(np.uint16)
    return {
        "png-l": saved(_picture("L"), "PNG"),
        "png-1": saved(_picture("1"), "PNG"),
        "png-la": saved(_picture("LA"), "PNG"),
        "png-p": saved(_picture("P"), "PNG"),
        "png-rgb": saved(_picture("RGB"), "PNG"),
        "png-rgba": saved(_picture("RGBA"), "PNG"),
        "png-16": saved(_picture("I;16"), "PNG"),
        "jpeg-l": saved(_picture("L"), "JPEG", quality=90),
        "jpeg-rgb": saved(_picture("RGB"), "JPEG", quality=90),
        "jpeg-cmyk": saved(_picture("CMYK"), "JPEG", quality=90),
        "jpeg-progressive": saved(_picture("L"), "JPEG", quality=90, progressive=True),
        "dicom": dicom(pixels=values),
        "dicom-signed": dicom(pixels=values.astype(np.int16)),
        "dicom-bare": dicom(pixels=values, is_bare=True),
        "dicom-rle": dicom(pixels=values, compress=RLE),
        "dicom-jpeg": dicom(pixels=values, compress=JPEG_LOSSLESS),
        "dicom-jpeg-ls": dicom(pixels=values, compress=JPEG_LS),
        "dicom-jpeg-2000": dicom(pixels=values, compress=JPEG_2000),
    }


def _damaged(chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """Cut short, bits flipped, stretches overwritten, doubled, taken out, shifted."""
    for kind, sound in sound_files().items():
        size = len(sound)
        for number in range(12):
            cut = chance.randrange(1, min(size, 400)) if number < 5 else chance.randrange(1, size)
            yield f"{kind} cut at {cut}", sound[:cut]
        for number in range(24):
            flipped = bytearray(sound)
            reach = min(size, 600) if number % 2 else size  # headers are where it hurts
            for _ in range(1 << (number % 7)):
                flipped[chance.randrange(reach)] ^= 1 << chance.randrange(8)
            yield f"{kind} flipped {number}", bytes(flipped)
        for number, filling in enumerate((b"\x00", b"\xff", b"\x7f", b"A", b"\n", b"%n")):
            start, length = chance.randrange(min(size, 800)), chance.randrange(1, 200)
            yield f"{kind} overwritten {number}", sound[:start] + filling * length + sound[start + length :]
        for number in range(4):
            start, length = chance.randrange(size), chance.randrange(1, 300)
            yield f"{kind} doubled {number}", sound[: start + length] + sound[start:]
            yield f"{kind} taken out {number}", sound[:start] + sound[start + length :]
        yield f"{kind} shifted", b"\x00" + sound
        yield f"{kind} with a tail", sound + bytes(chance.randrange(256) for _ in range(5000))
        yield f"{kind} backwards", sound[::-1]


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return one chunk of a PNG with the right checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(*, width: int, height: int, depth: int = 8, colour: int = 0, data: bytes = b"", extra: bytes = b"") -> bytes:
    """Return a PNG whose header says anything, with right checksums throughout."""
    header = struct.pack(">IIBBBBB", width & 0xFFFFFFFF, height & 0xFFFFFFFF, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _lying_png() -> Iterator[tuple[str, bytes]]:
    rows = zlib.compress(b"".join(b"\x00" + bytes(range(80)) for _ in range(80)))
    for width, height in (
        (0, 0),
        (0, 80),
        (80, 0),
        (1, 1),
        (63, 80),
        (80, 63),
        (80, 8000),
        (2**31 - 1, 2**31 - 1),
        (2**32 - 1, 1),
        (2**31, 80),
        (65_500, 65_500),
        (8192, 8192),
        (8193, 100),
        (6000, 6000),
        (300, 300),
    ):
        yield f"png says {width} x {height}", png(width=width, height=height, data=rows)
    for depth in (0, 1, 2, 3, 4, 7, 16, 32, 255):
        for colour in (0, 1, 2, 3, 4, 5, 6, 7):
            yield f"png depth {depth} colour {colour}", png(width=80, height=80, depth=depth, colour=colour, data=rows)
    for name, data in (("empty", b""), ("no zlib", b"no"), ("short", rows[:40]), ("twice", rows + rows)):
        yield f"png data {name}", png(width=80, height=80, data=data)
    for filter_ in (5, 128, 255):
        wrong = zlib.compress(b"".join(bytes([filter_]) + bytes(80) for _ in range(80)))
        yield f"png filter {filter_}", png(width=80, height=80, data=wrong)
    for kind in (b"gAMA", b"cHRM", b"sRGB", b"tRNS", b"PLTE", b"bKGD", b"pHYs", b"iCCP", b"eXIf", b"acTL", b"fcTL"):
        for content in (b"", b"\xff" * 13, b"\x00" * 4):
            yield (
                f"png chunk {kind.decode()} {len(content)}",
                png(width=80, height=80, data=rows, extra=chunk(kind, content)),
            )
    long_chunk = struct.pack(">I", 2**31 - 1) + b"IDAT" + rows
    yield "png chunk of 2 GB", png(width=80, height=80)[:33] + long_chunk


def _lying_jpeg() -> Iterator[tuple[str, bytes]]:
    sound = saved(_picture("L"), "JPEG")
    frame = sound.index(b"\xff\xc0")
    for width, height in ((0, 0), (0, 80), (80, 0), (65_535, 65_535), (8000, 20), (300, 300), (64, 64)):
        size = struct.pack(">HH", height, width)
        yield f"jpeg says {width} x {height}", sound[: frame + 5] + size + sound[frame + 9 :]
    for components in (0, 2, 3, 4, 5, 255):
        yield f"jpeg of {components} components", sound[: frame + 9] + bytes([components]) + sound[frame + 10 :]
    for precision in (0, 1, 12, 16, 255):
        yield f"jpeg of {precision} bits", sound[: frame + 4] + bytes([precision]) + sound[frame + 5 :]
    for marker in range(0xC1, 0xD0):
        yield f"jpeg frame {marker:x}", sound[: frame + 1] + bytes([marker]) + sound[frame + 2 :]
    for length in (0, 1, 2, 0xFFFF):
        yield f"jpeg segment of {length}", sound[:2] + b"\xff\xe1" + struct.pack(">H", length) + sound[2:]
    exif = Image.Exif()
    exif[0x0112] = 6
    for turn in (0, 3, 6, 9, 65_535):
        exif[0x0112] = turn
        yield f"jpeg turned {turn}", saved(_picture("L"), "JPEG", exif=exif)
    yield (
        "jpeg exif of a loop",
        sound[:2] + b"\xff\xe1\x00\x18Exif\x00\x00II*\x00\x08\x00\x00\x00\x00\x00\x08\x00\x00\x00" + sound[2:],
    )


def _lying_dicom() -> Iterator[tuple[str, bytes]]:
    changes: list[dict[str, Any]] = [
        {"Rows": rows, "Columns": columns}
        for rows, columns in ((0, 0), (0, 96), (1, 1), (65_535, 65_535), (8000, 8000), (300, 300), (64, 64), (80, 97))
    ]
    changes += [{"BitsAllocated": bits} for bits in (0, 1, 8, 12, 24, 32, 64, 65_535)]
    changes += [{"BitsStored": bits, "HighBit": bits - 1} for bits in (1, 8, 16, 17, 255)]
    changes += [{"NumberOfFrames": frames} for frames in ("0", "-1", "2", "2147483647")]
    changes += [{"SamplesPerPixel": samples} for samples in (0, 3, 4, 65_535)]
    changes += [{"PixelRepresentation": value} for value in (2, 65_535)]
    changes += [{"PhotometricInterpretation": kind} for kind in ("", "RGB", "PALETTE COLOR", "YBR_FULL", "X" * 16)]
    changes += [{"RescaleSlope": slope} for slope in ("0", "1e300", "-1e300", "1e-300")]
    changes += [{"RescaleIntercept": value} for value in ("1e300", "-1e300")]
    changes += [
        {"WindowCenter": "1e300", "WindowWidth": width, "RescaleIntercept": None} for width in ("0", "-5", "1e300")
    ]
    changes += [{"PixelSpacing": value} for value in (["0", "0"], ["-1", "1"], ["1e300", "1"], ["0.7"], None)]
    changes += [{"ImageOrientationPatient": value} for value in (["0"] * 6, ["1e300"] * 6, ["1"], None)]
    changes += [{"PixelData": data} for data in (b"", b"\x00", b"\xff" * 64)]
    changes += [{name: None} for name in ("PixelData", "Rows", "BitsAllocated", "Modality", "SOPClassUID")]
    changes += [{"PatientName": "../../x^\x1b[2J", "PatientID": "' OR 1=1 --"}]
    for number, change in enumerate(changes):
        yield f"dicom {number}: {', '.join(change)}", dicom(**change)
    for syntax in (RLE, JPEG_LS, JPEG_2000, "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.201", "1.2.3", "x" * 64):
        yield f"dicom claims {syntax[:30]}", _claiming(syntax.encode())
    sound = dicom()
    deep = b"\x08\x00\x15\x11SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    for depth in (50, 1500, 20_000):
        yield f"dicom {depth} sequences deep", sound[:132] + sound[132:330] + deep * depth
    for length in (0, 7, 2**31, 2**32 - 2):
        yield (
            f"dicom pixel data of {length}",
            sound.replace(b"\xe0\x7f\x10\x00OW\x00\x00", b"\xe0\x7f\x10\x00OW\x00\x00" + struct.pack("<I", length)),
        )
    for number in range(20):
        wild = bytearray(sound)
        struct.pack_into("<I", wild, 132 + number * 17, 0xFFFFFFFE)
        yield f"dicom length {number}", bytes(wild)


def _claiming(syntax: bytes, *, before: bytes = b"", body: bytes | None = None) -> bytes:
    """Return a DICOM file whose header names a syntax that its data set (``body``) need not be in."""
    sound = dicom()
    meta = b"\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01" + before
    syntax += b"\x00" * (len(syntax) % 2)
    meta += b"\x02\x00\x10\x00UI" + struct.pack("<H", len(syntax)) + syntax
    if body is None:
        (group_length,) = struct.unpack_from("<I", sound, 140)
        body = sound[144 + group_length :]
    return bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00" + struct.pack("<I", len(meta)) + meta + body


def _bombs() -> Iterator[tuple[str, bytes]]:
    zeros = zlib.compress(bytes(60_000_000), 9)
    yield "png of 900 million pixels", png(width=30_000, height=30_000, data=zeros)
    yield "png with 60 MB too much", png(width=80, height=80, data=zeros)
    for kind in (b"zTXt", b"iCCP"):
        yield (
            f"png {kind.decode()} bomb",
            png(width=80, height=80, data=zeros[:100], extra=chunk(kind, b"x\x00\x00" + zeros)),
        )
    yield "png iTXt bomb", png(width=80, height=80, extra=chunk(b"iTXt", b"x\x00\x01\x00\x00\x00" + zeros))
    yield "png of ten thousand chunks", png(width=80, height=80, extra=chunk(b"tEXt", b"a\x00b") * 10_000)
    yield deflated_dicom(padding=0)
    # Behind a long header, where a look at the first bytes would miss it.
    yield deflated_dicom(padding=60_000)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr(zipfile.ZipInfo("slice.png"), bytes(20_000_000), zipfile.ZIP_DEFLATED)
    yield "zip bomb", archive.getvalue()
    yield "gzip", b"\x1f\x8b\x08\x00" + zeros
    lol = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    yield "xml of a billion laughs", f'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY l0 "lol">{lol}]><l>&l9;</l>'.encode()


def deflated_dicom(*, padding: int) -> tuple[str, bytes]:
    """Return a DICOM file whose data set unfolds to 80 MB, with ``padding`` bytes of header before it says so."""
    private = b"\x02\x00\x02\x01OB\x00\x00" + struct.pack("<I", padding) + bytes(padding) if padding else b""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = b"\x08\x00\x60\x00CS\x02\x00CT" + b"\x09\x00\x10\x10OB\x00\x00" + struct.pack("<I", 80_000_000)
    body = packer.compress(head) + packer.compress(bytes(80_000_000)) + packer.flush()
    return f"deflated dicom bomb behind {padding}", _claiming(b"1.2.840.10008.1.2.1.99", before=private, body=body)


def _polyglots() -> Iterator[tuple[str, bytes]]:
    sound = sound_files()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr(zipfile.ZipInfo("../../evil.py"), "import os")
    php = b"<?php system($_GET['c']); ?><script>alert(document.cookie)</script>"
    for kind in ("png-l", "jpeg-l", "dicom"):
        yield f"{kind} and a zip", sound[kind] + archive.getvalue()
        yield f"{kind} and a script", sound[kind] + php
        yield f"{kind} and a pdf", sound[kind] + b"%PDF-1.4\n1 0 obj <</OpenAction 2 0 R>>"
        for head in (
            b"GIF89a",
            b"%PDF-1.7\n",
            b"#!/bin/sh\n",
            b"<html>",
            b"PK\x03\x04",
            b"\xef\xbb\xbf",
            b"MZ\x90\x00",
        ):
            yield f"{head!r} before {kind}", head + sound[kind]
    for head in (b"MZ\x90\x00", b"\x7fELF\x02\x01", b"II*\x00\x08\x00\x00\x00", b"#!/bin/sh\nid\n", b"<html><script>"):
        # A program in the preamble of a DICOM file (CVE-2019-11687).
        yield f"{head!r} in the preamble", head.ljust(128, b"\x00") + sound["dicom"][128:]
    yield "png magic, jpeg inside", b"\x89PNG\r\n\x1a\n" + sound["jpeg-l"]
    yield "jpeg magic, png inside", b"\xff\xd8\xff" + sound["png-l"]
    comment = b"\xff\xfe" + struct.pack(">H", len(php) + 2) + php
    yield "jpeg with a script as comment", sound["jpeg-l"][:2] + comment + sound["jpeg-l"][2:]
    text = chunk(b"tEXt", b"Comment\x00" + php)
    yield "png with a script as comment", sound["png-l"][:33] + text + sound["png-l"][33:]


def _odd() -> Iterator[tuple[str, bytes]]:
    frames = [_picture("L"), Image.new("L", (80, 80), 9), _picture("L", side_px=80).rotate(90)]
    yield "animated png", saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    yield "animated gif", saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    yield "animated webp", saved(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    yield "jpeg burst", saved(frames[0], "MPO", save_all=True, append_images=frames[1:])
    for kind in ("BMP", "TIFF", "GIF", "WEBP", "PPM", "ICO", "TGA", "PCX", "DDS", "JPEG2000"):
        yield f"a {kind}", saved(_picture("RGB"), kind)
    for mode in ("L", "RGB"):
        yield f"one even grey {mode}", saved(Image.new(mode, (96, 96)), "PNG")
    colours = np.random.default_rng(2).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    yield "a colourful photograph", saved(Image.fromarray(colours), "JPEG")
    yield "a strip", saved(_picture("L").resize((640, 64)), "PNG")
    yield "nothing", b""
    for content in (
        b"\x00",
        b"\xff",
        b"\n",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xd9",
        bytes(128) + b"DICM",
    ):
        yield f"only {content[-8:]!r}", content
    yield "a table", b'record_number,family_name\n=HYPERLINK("http://x"),@SUM(1)\n\xff\xfe\x00'
    yield "a table of nulls", b"\x00," * 5000
    yield "a table of one cell", b'"' + b"a" * 200_000
    yield "a drawing with a script", b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    yield "a web page", b"<!DOCTYPE html><script src=//example.org/x.js></script>"
    yield "a pickle", b"\x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94."
    chance = random.Random(SEED + 1)  # noqa: S311 - repeatable on purpose
    for number in range(60):
        yield f"noise {number}", chance.randbytes(chance.randrange(1, 4000))
