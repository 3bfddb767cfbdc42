"""Reading DICOM: axial CT slices in every usual packing are read right, everything else gets its reason."""

import datetime
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.dicom import read_dicom_facts
from ml.errors import ImageError, ImageTooLargeError, ImageTooSmallError, UnreadableImageError, UnsupportedImageError
from ml.images import is_dicom, read_slice
from ml.windows import WINDOWS
from tests.dicom_files import GREY, JPEG_LOSSLESS, dicom
from tests.ml.test_images import assert_sentence
from tests.tools import shared_data

JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
RUN_LENGTHS = "1.2.840.10008.1.2.5"


def test_dicom_is_windowed_from_hounsfield_units():
    slice_ = read_slice(dicom())
    assert np.array_equal(slice_.pixels, WINDOWS["wide"].apply(GREY.astype(np.float32) * 8 - 1024))
    assert slice_.pixel_spacing_mm == (0.7, 0.8)
    assert (slice_.format, slice_.width, slice_.height) == ("DICOM", 96, 80)


def test_dicom_window_can_be_chosen():
    assert not np.array_equal(read_slice(dicom(), window=WINDOWS["lung"]).pixels, read_slice(dicom()).pixels)


@pytest.mark.parametrize("packing", [JPEG_LOSSLESS, JPEG_LS, JPEG_2000, RUN_LENGTHS])
def test_every_lossless_packing_gives_the_same_pixels(packing):
    assert np.array_equal(read_slice(dicom(compress=packing)).pixels, read_slice(dicom()).pixels)


@pytest.mark.parametrize("packing", ["", JPEG_LOSSLESS, JPEG_LS, JPEG_2000, RUN_LENGTHS])
def test_signed_values_are_hounsfield_units(packing):
    hu = (GREY.astype(np.int16) * 6) - 1000
    slice_ = read_slice(dicom(pixels=hu, RescaleIntercept=0, compress=packing))
    assert np.array_equal(slice_.pixels, WINDOWS["wide"].apply(hu))


def test_slope_and_intercept_are_applied():
    half = GREY.astype(np.uint16) * 4
    assert np.array_equal(read_slice(dicom(pixels=half, RescaleSlope=2)).pixels, read_slice(dicom()).pixels)


def test_bits_above_those_stored_do_not_count():
    noisy = (GREY.astype(np.uint16) * 8) | np.uint16(0xA000)
    assert np.array_equal(read_slice(dicom(pixels=noisy)).pixels, read_slice(dicom()).pixels)


def test_the_slice_knows_which_hounsfield_units_became_black_and_white():
    assert read_slice(dicom()).window == WINDOWS["wide"]


def test_without_hounsfield_units_the_window_of_the_file_itself_counts():
    changes = {"RescaleIntercept": None, "RescaleSlope": None, "WindowCenter": [1020, 40], "WindowWidth": [2040, 400]}
    slice_ = read_slice(dicom(**changes))
    assert np.abs(slice_.pixels.astype(int) - GREY).max() <= 1
    assert slice_.window is None


def test_without_hounsfield_units_and_window_the_whole_range_is_shown():
    slice_ = read_slice(dicom(RescaleIntercept=None, RescaleSlope=None))
    assert np.abs(slice_.pixels.astype(int) - GREY).max() <= 2


@pytest.mark.parametrize("width", [0, -5, None])
def test_an_absurd_window_of_a_file_is_none(width):
    changes = {} if width is None else {"WindowWidth": width}
    file = dicom(RescaleIntercept=None, RescaleSlope=None, WindowCenter=40, **changes)
    assert read_slice(file).pixels.max() > 200


def test_a_data_set_without_preamble_is_told_by_its_first_bytes():
    bare = dicom(is_bare=True)
    assert bare[128:132] != b"DICM"
    assert is_dicom(bare)
    assert np.array_equal(read_slice(bare).pixels, read_slice(dicom()).pixels)


def test_inverted_dicom_is_turned_round():
    inverted = read_slice(dicom(PhotometricInterpretation="MONOCHROME1")).pixels
    assert np.array_equal(inverted, 255 - read_slice(dicom()).pixels)


@pytest.mark.parametrize("spacing", [None, [0, 0], [-1, 1], [80, 80]])
def test_absurd_spacing_is_no_spacing(spacing):
    assert read_slice(dicom(PixelSpacing=spacing)).pixel_spacing_mm is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"Modality": "MR"}, UnsupportedImageError),
        ({"Modality": None}, UnsupportedImageError),
        ({"PixelData": None}, UnsupportedImageError),
        ({"NumberOfFrames": 40}, UnsupportedImageError),
        ({"SamplesPerPixel": 3}, UnsupportedImageError),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, UnsupportedImageError),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, UnsupportedImageError),
        ({"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED"]}, UnsupportedImageError),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, UnsupportedImageError),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.3"}, UnsupportedImageError),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2.1"}, UnsupportedImageError),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, UnsupportedImageError),
        ({"ImageOrientationPatient": None}, UnsupportedImageError),
        ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, UnsupportedImageError),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0.7, 0.7]}, UnsupportedImageError),
        ({"Rows": 60000, "Columns": 60000}, ImageTooLargeError),
        ({"Rows": 32}, ImageTooSmallError),
        ({"Rows": 90}, UnreadableImageError),
        ({"RescaleSlope": 0}, UnreadableImageError),
        ({"PixelData": b"\0" * (80 * 96 * 2)}, UnsupportedImageError),
    ],
)
def test_dicom_of_another_kind_is_refused(changes, expected):
    with pytest.raises(ImageError) as caught:
        read_slice(dicom(**changes))
    assert type(caught.value) is expected, str(caught.value)
    assert_sentence(caught.value)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.1.99"])
def test_other_packings_are_refused_with_the_way_out(syntax):
    with pytest.raises(UnsupportedImageError, match="uncompressed"):
        read_slice(_with_syntax(syntax))


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"])
def test_a_packing_that_is_only_claimed_is_damage(syntax):
    with pytest.raises(UnreadableImageError):
        read_slice(_with_syntax(syntax))


@pytest.mark.parametrize("packing", [JPEG_LOSSLESS, JPEG_LS, JPEG_2000])
def test_a_stream_of_another_size_than_the_header_says_is_never_unpacked(packing):
    whole = dicom(compress=packing)
    rows = b"\x28\x00\x10\x00US\x02\x00"
    assert rows + struct.pack("<H", 80) in whole
    with pytest.raises(UnreadableImageError):
        read_slice(whole.replace(rows + struct.pack("<H", 80), rows + struct.pack("<H", 96)))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_flipped_bytes_in_a_packed_stream_give_a_slice_or_a_sentence(data):
    good = data.draw(st.sampled_from(PACKED))
    broken = bytearray(good)
    for _ in range(data.draw(st.integers(1, 6))):
        broken[data.draw(st.integers(132, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        slice_ = read_slice(bytes(broken))
    except ImageError as error:
        assert_sentence(error)
    else:
        assert slice_.pixels.shape == (slice_.height, slice_.width)


PACKED = [dicom(compress=packing) for packing in (JPEG_LOSSLESS, JPEG_LS, JPEG_2000, RUN_LENGTHS)]


def _with_syntax(syntax: str) -> bytes:
    """The sample with another transfer syntax in its header; the element grows by the longer name."""
    good = dicom()
    old = b"\x02\x00\x10\x00UI" + struct.pack("<H", 20) + b"1.2.840.10008.1.2.1\0"
    value = syntax.encode() + (b"\0" if len(syntax) % 2 else b"")
    assert old in good
    return good.replace(old, b"\x02\x00\x10\x00UI" + struct.pack("<H", len(value)) + value)


# --- facts ------------------------------------------------------------------------------------------------------------


def test_facts_of_a_slice():
    facts = read_dicom_facts(
        dicom(
            StudyInstanceUID="1.2.3",
            SeriesInstanceUID="1.2.3.4",
            SeriesNumber=2,
            InstanceNumber=17,
            ImagePositionPatient=[-120.5, -110, 42.125],
            PatientID=" R-7 ",
            PatientName="Łąk^Zoë^M",
            SpecificCharacterSet="ISO_IR 192",
            PatientBirthDate="19570405",
            StudyDate="20260115",
        )
    )
    assert (facts.study_uid, facts.series_uid, facts.series_number) == ("1.2.3", "1.2.3.4", 2)
    assert (facts.instance_number, facts.position_mm) == (17, 42.125)
    assert (facts.record_number, facts.family_name, facts.given_name) == ("R-7", "Łąk", "Zoë M")
    assert facts.birth_date == datetime.date(1957, 4, 5)
    assert facts.study_date == datetime.date(2026, 1, 15)


def test_a_silent_file_has_no_facts():
    facts = read_dicom_facts(dicom(PatientBirthDate="", StudyDate="", PatientName=""))
    assert (facts.record_number, facts.family_name, facts.given_name) == ("", "", "")
    assert (facts.birth_date, facts.study_date, facts.position_mm, facts.instance_number) == (None,) * 4


def test_the_position_is_measured_along_the_normal_of_a_tilted_slice():
    tilted = [1, 0, 0, 0, 0.966, 0.259]
    low, high = (
        read_dicom_facts(dicom(ImageOrientationPatient=tilted, ImagePositionPatient=[0, 0, z])).position_mm
        for z in (-10, 10)
    )
    assert low is not None
    assert high is not None
    assert 18 < high - low < 20


def test_a_tilted_gantry_is_still_axial():
    assert read_slice(dicom(ImageOrientationPatient=[1, 0, 0, 0, 0.94, 0.342])).width == 96


def test_facts_refuse_what_the_slice_would_be_refused_for():
    with pytest.raises(UnsupportedImageError, match="MR"):
        read_dicom_facts(dicom(Modality="MR"))


def test_control_characters_of_a_name_do_not_travel():
    assert read_dicom_facts(dicom(PatientName="Doe\x1b\x07^Jane")).family_name == "Doe"


# --- real files -------------------------------------------------------------------------------------------------------


def test_real_dicom_series_is_read():
    files = sorted(shared_data("dicom").rglob("*.dcm"))
    assert files
    for path in files:
        slice_ = read_slice(path)
        assert (slice_.width, slice_.height) == (512, 512)
        assert slice_.pixel_spacing_mm == pytest.approx((0.564, 0.564), abs=0.01)
        assert 10 < slice_.pixels.std() < 120
