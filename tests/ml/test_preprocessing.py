"""Grey values and sizes before a network sees them."""

import numpy as np
import pytest

from ml import preprocessing
from ml.phantom import PhantomSpec, make_phantom
from ml.preprocessing import Box


@pytest.fixture(scope="module")
def slice_pixels():
    return make_phantom(5, spec=PhantomSpec(size=256, window="wide", nodules=())).pixels


def iou(one: Box, other: Box) -> float:
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    both = max(0, width) * max(0, height)
    return both / (one.width * one.height + other.width * other.height - both)


class TestStretch:
    def test_it_uses_the_whole_range(self):
        pixels = np.linspace(90, 110, 10000).astype(np.uint8).reshape(100, 100)
        stretched = preprocessing.stretch(pixels)
        assert (stretched.min(), stretched.max()) == (0, 255)
        assert stretched.dtype == np.uint8

    def test_it_does_not_depend_on_brightness_and_contrast(self):
        pixels = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
        darker = (pixels.astype(float) * 0.5 + 30).astype(np.uint8)
        difference = preprocessing.stretch(pixels).astype(int) - preprocessing.stretch(darker).astype(int)
        assert np.abs(difference).max() <= 3

    def test_one_bright_marker_does_not_darken_the_slice(self):
        pixels = np.tile(np.arange(100, dtype=np.uint8), (100, 1))
        marked = pixels.copy()
        marked[:4, :4] = 255
        difference = preprocessing.stretch(pixels).astype(int) - preprocessing.stretch(marked).astype(int)
        assert np.abs(difference[10:]).max() <= 3

    @pytest.mark.parametrize("grey", [0, 77, 255])
    def test_a_picture_of_one_grey_is_black(self, grey):
        assert not preprocessing.stretch(np.full((70, 80), grey, np.uint8)).any()

    def test_two_greys_of_which_one_is_rare_stay_apart(self):
        pixels = np.zeros((100, 100), np.uint8)
        pixels[0, 0] = 9
        assert preprocessing.stretch(pixels)[0, 0] == 255

    @pytest.mark.parametrize(
        "wrong", [np.zeros((4, 4)), np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4), np.uint8), np.zeros(4, np.uint8)]
    )
    def test_anything_but_grey_bytes_is_refused_with_what_arrived(self, wrong):
        with pytest.raises(ValueError, match="Received: shape="):
            preprocessing.stretch(wrong)


class TestBodyBox:
    def test_margin_around_the_body_does_not_matter(self, slice_pixels):
        box = preprocessing.body_box(slice_pixels)
        padded = np.pad(slice_pixels, ((60, 10), (25, 90)))
        found = preprocessing.body_box(padded)
        moved = Box(left=found.left - 25, top=found.top - 60, right=found.right - 25, bottom=found.bottom - 60)
        assert iou(box, moved) > 0.9

    def test_a_white_frame_is_not_the_body(self, slice_pixels):
        padded = np.pad(slice_pixels, 40)
        padded[:2], padded[-2:], padded[:, :2], padded[:, -2:] = 255, 255, 255, 255
        found = preprocessing.body_box(padded)
        assert iou(preprocessing.body_box(np.pad(slice_pixels, 40)), found) > 0.9

    def test_a_table_line_below_is_not_the_body(self, slice_pixels):
        padded = np.pad(slice_pixels, ((0, 80), (0, 0)))
        without_table = preprocessing.body_box(padded)
        padded[-20:-18] = 255
        assert iou(without_table, preprocessing.body_box(padded)) > 0.95

    def test_size_scales_the_box(self, slice_pixels):
        doubled = np.kron(slice_pixels, np.ones((2, 2), np.uint8))
        box, large = preprocessing.body_box(slice_pixels), preprocessing.body_box(doubled)
        halved = Box(left=large.left // 2, top=large.top // 2, right=large.right // 2, bottom=large.bottom // 2)
        assert iou(box, halved) > 0.95

    @pytest.mark.parametrize("grey", [0, 128, 255])
    def test_where_nothing_is_found_the_box_is_the_picture(self, grey):
        box = preprocessing.body_box(np.full((90, 130), grey, np.uint8))
        assert (box.left, box.top, box.right, box.bottom) == (0, 0, 130, 90)

    def test_noise_alone_never_leaves_the_picture(self):
        rng = np.random.default_rng(1)
        for height, width in ((64, 64), (64, 4096), (999, 70)):
            box = preprocessing.body_box(rng.integers(0, 256, (height, width)).astype(np.uint8))
            assert 0 <= box.left < box.right <= width
            assert 0 <= box.top < box.bottom <= height

    @pytest.mark.parametrize("window", ["lung", "soft_tissue", "wide"])
    def test_windows_agree_on_the_body(self, window):
        pixels = make_phantom(9, spec=PhantomSpec(window=window, nodules=())).pixels
        wide = make_phantom(9, spec=PhantomSpec(window="wide", nodules=())).pixels
        assert iou(preprocessing.body_box(pixels), preprocessing.body_box(wide)) > 0.8


class TestInputs:
    def test_input_is_centred_and_has_three_equal_channels(self):
        inputs = preprocessing.to_input(np.array([[0, 102, 255]], np.uint8))
        assert inputs.shape == (1, 3, 3)
        assert inputs.dtype == np.float32
        np.testing.assert_allclose(inputs[0, :, 0], [-1.6, 0.0, 2.4], atol=1e-6)
        assert (inputs[..., 0] == inputs[..., 1]).all()
        assert (inputs[..., 1] == inputs[..., 2]).all()

    def test_outline_slices_have_the_longest_side_asked_for(self, slice_pixels):
        small, box = preprocessing.outline_slice(np.pad(slice_pixels, 100), side=256)
        assert max(small.shape) == 256
        assert abs(small.shape[0] / small.shape[1] - box.height / box.width) < 0.02

    def test_classifier_slices_are_square_whatever_comes(self, slice_pixels):
        for pixels in (slice_pixels, slice_pixels[:, 40:90], slice_pixels[:70]):
            small, _ = preprocessing.classifier_slice(np.ascontiguousarray(pixels), side=96)
            assert small.shape == (96, 96)

    @pytest.mark.parametrize(("shape", "padded"), [((16, 32), (16, 32)), ((17, 33), (32, 48)), ((1, 1), (16, 16))])
    def test_padding_reaches_the_next_multiple(self, shape, padded):
        pixels = np.ones(shape, np.uint8)
        assert preprocessing.pad_to_stride(pixels).shape == padded
        assert preprocessing.pad_to_stride(pixels).sum() == pixels.sum()
