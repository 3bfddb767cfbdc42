"""Reading slices: every sound kind is read right, and every hostile or mistaken file gets a sentence."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ml.errors import (
    ImageError,
    ImageTooLargeError,
    ImageTooSmallError,
    UnreadableImageError,
    UnsupportedImageError,
)
from ml.images import Limits, read_slice, reencode_png
from tests.dicom_files import dicom

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
GREY = np.tile(np.linspace(0, 255, 96, dtype=np.uint8), (80, 1))
NOISE = np.random.default_rng(0).integers(0, 255, (90, 90), np.uint8)


def encode(image: Image.Image, *, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()


def png(array: np.ndarray = GREY, **options) -> bytes:
    return encode(Image.fromarray(array), **options)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bomb(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 4096)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def assert_sentence(error: Exception) -> None:
    text = str(error)
    assert text[0].isupper()
    assert text.endswith(".")
    assert "Please" in text
    assert len(text) < 320


# --- what is read -----------------------------------------------------------------------------------------------------


def test_grey_png_is_read_as_it_is():
    slice_ = read_slice(png())
    assert np.array_equal(slice_.pixels, GREY)
    assert (slice_.width, slice_.height) == (96, 80)
    assert (slice_.format, slice_.mode, slice_.pixel_spacing_mm) == ("PNG", "L", None)


def test_path_and_bytes_give_the_same(tmp_path):
    path = tmp_path / "slice.dat"
    path.write_bytes(png())
    assert np.array_equal(read_slice(path).pixels, read_slice(png()).pixels)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P"])
def test_grey_picture_survives_every_png_mode(mode):
    data = encode(Image.fromarray(GREY).convert(mode))
    assert np.abs(read_slice(data).pixels.astype(int) - GREY).max() <= 1


def test_bilevel_png():
    slice_ = read_slice(encode(Image.fromarray(GREY).convert("1")))
    assert set(np.unique(slice_.pixels)) == {0, 255}


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_grey_picture_survives_every_jpeg_mode(mode):
    data = encode(Image.fromarray(GREY).convert("RGB").convert(mode), kind="JPEG", quality=95)
    slice_ = read_slice(data)
    assert slice_.format == "JPEG"
    assert np.abs(slice_.pixels.astype(int) - GREY).mean() < 3


def test_progressive_jpeg_under_a_png_name(tmp_path):
    path = tmp_path / "slice.png"
    path.write_bytes(encode(Image.fromarray(GREY), kind="JPEG", progressive=True))
    assert read_slice(path).format == "JPEG"


def test_transparent_parts_are_black():
    layers = np.zeros((80, 96, 4), np.uint8)
    layers[..., :3] = GREY[..., None]
    layers[:, 48:, 3] = 255
    slice_ = read_slice(encode(Image.fromarray(layers)))
    assert slice_.pixels[:, :48].max() == 0
    assert np.array_equal(slice_.pixels[:, 48:], GREY[:, 48:])


def test_half_transparent_grey_alpha_is_composited():
    layers = np.stack([GREY, np.full_like(GREY, 128)], axis=2)
    slice_ = read_slice(encode(Image.fromarray(layers, mode="LA")))
    assert abs(int(slice_.pixels[0, -1]) - 128) <= 1


def test_palette_with_transparency():
    image = Image.fromarray(GREY).convert("P")
    slice_ = read_slice(encode(image, transparency=255))
    assert slice_.pixels[0, -1] == 0
    assert slice_.pixels[0, 40] > 80


def test_sixteen_bits_are_scaled_not_cut_off():
    deep = (GREY.astype(np.uint16) * 16) + 100
    slice_ = read_slice(png(deep))
    assert slice_.mode.startswith("I")
    assert np.abs(slice_.pixels.astype(int) - GREY).max() <= 2


def test_one_hot_pixel_does_not_dim_sixteen_bits():
    deep = (GREY.astype(np.uint16) * 16) + 100
    deep[0, 0] = 65535
    assert np.abs(read_slice(png(deep)).pixels.astype(int) - GREY)[1:].max() <= 4


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    slice_ = read_slice(encode(Image.fromarray(GREY), kind="JPEG", exif=exif, quality=95))
    assert (slice_.width, slice_.height) == (80, 96)
    assert slice_.pixels[0].mean() < 20 < slice_.pixels[-1].mean()


def test_broken_exif_does_not_refuse_sound_pixels():
    data = encode(Image.fromarray(GREY), kind="JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert read_slice(data).width == 96


def test_coloured_arrow_on_a_slice_is_allowed():
    colour = np.repeat(GREY[..., None], 3, axis=2)
    colour[10:20, 10:30] = (255, 0, 0)
    assert read_slice(encode(Image.fromarray(colour))).width == 96


def test_reencoded_png_has_the_pixels_and_no_metadata():
    noisy = png(dpi=(300, 300), exif=Image.Exif().tobytes(), icc_profile=b"x" * 64)
    clean = reencode_png(read_slice(noisy + b"<script>trailing</script>"))
    with Image.open(io.BytesIO(clean)) as image:
        assert image.mode == "L"
        assert image.info == {}
        assert np.array_equal(np.asarray(image), GREY)
    assert b"script" not in clean
    assert b"tEXt" not in clean


# --- what is refused --------------------------------------------------------------------------------------------------

photograph = np.zeros((96, 96, 3), np.uint8)
photograph[..., 0], photograph[..., 1], photograph[..., 2] = 190, np.arange(96), 60

REFUSED = {
    "empty": (b"", UnreadableImageError),
    "text": (b"hello, this is no picture at all", UnsupportedImageError),
    "pdf": (b"%PDF-1.7 ...", UnsupportedImageError),
    "gif": (b"GIF89a" + b"\0" * 64, UnsupportedImageError),
    "svg": (b"  <svg onload=alert(1)>", UnsupportedImageError),
    "zip": (b"PK\x03\x04" + b"\0" * 64, UnsupportedImageError),
    "webp": (b"RIFF\x10\0\0\0WEBPVP8 ", UnsupportedImageError),
    "heic": (b"\0\0\0\x18ftypheic", UnsupportedImageError),
    "tiff": (encode(Image.fromarray(GREY), kind="TIFF"), UnsupportedImageError),
    "bmp": (encode(Image.fromarray(GREY), kind="BMP"), UnsupportedImageError),
    "png header only": (b"\x89PNG\r\n\x1a\n", UnreadableImageError),
    "png cut in the middle": (png(NOISE)[:3000], UnreadableImageError),
    "jpeg cut in the middle": (encode(Image.fromarray(GREY), kind="JPEG")[:-300], UnreadableImageError),
    "jpeg header only": (b"\xff\xd8\xff\xe0", UnreadableImageError),
    "png with a wrong checksum": (png()[:45] + b"\xff" + png()[46:], UnreadableImageError),
    "gif behind a png magic": (b"\x89PNG\r\n\x1a\n" + b"GIF89a" * 30, UnreadableImageError),
    "pixel flood": (bomb(50_000, 50_000), ImageTooLargeError),
    "pixel flood beyond what Pillow opens": (bomb(2**31 - 1, 2**31 - 1), ImageTooLargeError),
    "more than forty million pixels": (bomb(7000, 6000), ImageTooLargeError),
    "long strip": (bomb(4000, 70), UnsupportedImageError),
    "zero size": (bomb(0, 0), UnreadableImageError),
    "too small": (png(GREY[:40, :40]), ImageTooSmallError),
    "blank": (png(np.full((96, 96), 120, np.uint8)), UnsupportedImageError),
    "all transparent": (png(np.dstack([GREY] * 3 + [np.zeros_like(GREY)])), UnsupportedImageError),
    "photograph": (png(photograph), UnsupportedImageError),
    "photograph as jpeg": (encode(Image.fromarray(photograph), kind="JPEG"), UnsupportedImageError),
    "animation": (
        encode(Image.fromarray(GREY), save_all=True, append_images=[Image.fromarray(255 - GREY)], duration=100),
        UnsupportedImageError,
    ),
    "dicom preamble only": (b"\0" * 128 + b"DICM", UnreadableImageError),
    "dicom preamble and noise": (b"\0" * 128 + b"DICM" + bytes(range(256)) * 4, UnreadableImageError),
    "program with a dicom magic": (b"MZ" + b"\0" * 126 + b"DICM", UnreadableImageError),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_are_sentences_of_the_right_kind(name):
    data, expected = REFUSED[name]
    with pytest.raises(ImageError) as caught:
        read_slice(data)
    assert type(caught.value) is expected, str(caught.value)
    assert_sentence(caught.value)


def test_too_many_bytes_are_refused_before_decoding(tmp_path):
    limits = Limits(max_bytes=1000)
    path = tmp_path / "large.png"
    path.write_bytes(png(NOISE))
    for source in (path, path.read_bytes()):
        with pytest.raises(ImageTooLargeError) as caught:
            read_slice(source, limits=limits)
        assert_sentence(caught.value)


def test_missing_file_and_folder_get_a_sentence(tmp_path):
    for path in (tmp_path / "absent.png", tmp_path):
        with pytest.raises(UnreadableImageError) as caught:
            read_slice(path)
        assert_sentence(caught.value)
        assert str(tmp_path) not in str(caught.value)


def test_text_chunk_bomb_is_refused_or_harmless():
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(b"A" * 80_000_000))
    data = png()
    hostile = data[:33] + text + data[33:]
    try:
        assert read_slice(hostile).width == 96
    except ImageError as error:
        assert_sentence(error)


@given(st.binary(max_size=400), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\0" * 128 + b"DICM"]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_noise_never_ends_in_anything_but_a_sentence(noise, magic):
    with pytest.raises(ImageError) as caught:
        read_slice(magic + noise)
    assert_sentence(caught.value)


@given(st.data())
@settings(max_examples=120, deadline=None)
def test_flipped_bytes_give_a_slice_or_a_sentence(data):
    good = data.draw(st.sampled_from([png(), encode(Image.fromarray(GREY), kind="JPEG"), dicom()]))
    broken = bytearray(good)
    for _ in range(data.draw(st.integers(1, 6))):
        broken[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        slice_ = read_slice(bytes(broken))
    except ImageError as error:
        assert_sentence(error)
    else:
        assert slice_.pixels.shape == (slice_.height, slice_.width)


# --- real files -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data set is not on this machine")
def test_real_slices_with_arrows_and_watermarks_are_read():
    folder = SHARED / "chest-ctscan-images" / "Data"
    files = sorted(folder.glob("train/normal/*")) + sorted(folder.glob("train/squamous*/sq*"))[:20]
    assert files
    for path in files[:80]:
        slice_ = read_slice(path)
        assert slice_.pixels.std() > 10
