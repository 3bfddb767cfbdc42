"""Random changes to training pictures: repeatable, of the right size, and aimed where they should be."""

import numpy as np
import pytest

pytest.importorskip("cv2", reason="training packages (requirements/ml.txt) are not installed")

from ml import augment
from ml.augment import Placement


@pytest.fixture
def pixels():
    rows, columns = np.mgrid[:96, :128]
    return (rows + columns).astype(np.uint8)


def spot(*, x: int, y: int) -> np.ndarray:
    picture = np.zeros((96, 128), np.uint8)
    picture[y - 2 : y + 3, x - 2 : x + 3] = 255
    return picture


def centre_of(picture: np.ndarray) -> tuple[float, float]:
    rows, columns = np.nonzero(picture > 127)
    return float(columns.mean()), float(rows.mean())


class TestCut:
    def test_at_scale_one_it_is_the_crop_itself(self, pixels):
        patch = augment.cut(pixels, placement=Placement(centre=(47.5, 31.5), scale=1.0), side=64)
        np.testing.assert_array_equal(patch, pixels[0:64, 16:80])

    @pytest.mark.parametrize("scale", [0.5, 1.0, 1.7])
    @pytest.mark.parametrize("angle", [0.0, 33.0, 180.0])
    @pytest.mark.parametrize("is_mirrored", [False, True])
    def test_the_centre_asked_for_is_in_the_middle(self, scale, angle, is_mirrored):
        placement = Placement(centre=(70.0, 40.0), scale=scale, angle_degrees=angle, is_mirrored=is_mirrored)
        x, y = centre_of(augment.cut(spot(x=70, y=40), placement=placement, side=65))
        assert abs(x - 32) < 1
        assert abs(y - 32) < 1

    def test_scale_is_output_pixels_per_input_pixel(self):
        placement = Placement(centre=(60.0, 40.0), scale=0.5)
        x, _ = centre_of(augment.cut(spot(x=80, y=40), placement=placement, side=64))
        assert abs(x - (31.5 + 10)) < 1

    def test_mirroring_swaps_left_and_right_only(self):
        placement = Placement(centre=(60.0, 40.0), scale=1.0, is_mirrored=True)
        x, y = centre_of(augment.cut(spot(x=70, y=45), placement=placement, side=64))
        assert abs(x - (31.5 - 10)) < 1
        assert abs(y - (31.5 + 5)) < 1

    def test_mask_and_picture_move_together(self):
        picture = spot(x=90, y=50)
        placement = Placement(centre=(80.0, 50.0), scale=0.8, angle_degrees=20, is_mirrored=True, stretch=1.1)
        patch = augment.cut(picture, placement=placement, side=64)
        mask = augment.cut((picture > 0).astype(np.uint8) * 255, placement=placement, side=64)
        np.testing.assert_array_equal(patch > 127, mask > 127)


class TestRandomChanges:
    @pytest.mark.parametrize("change", [augment.random_greys, augment.random_marks])
    def test_the_same_generator_gives_the_same_picture(self, change, pixels):
        once = [change(pixels, rng=np.random.default_rng(seed)) for seed in range(20)]
        again = [change(pixels, rng=np.random.default_rng(seed)) for seed in range(20)]
        for one, other in zip(once, again, strict=True):
            np.testing.assert_array_equal(one, other)
        assert any((one != once[0]).any() for one in once[1:])

    @pytest.mark.parametrize("change", [augment.random_greys, augment.random_marks])
    @pytest.mark.parametrize("shape", [(64, 64), (40, 200), (16, 16)])
    def test_shape_and_type_stay_and_the_input_is_not_touched(self, change, shape):
        picture = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
        before = picture.copy()
        for seed in range(60):
            changed = change(picture, rng=np.random.default_rng(seed))
            assert changed.shape == shape
            assert changed.dtype == np.uint8
        np.testing.assert_array_equal(picture, before)

    def test_greys_keep_their_order_on_average(self, pixels):
        for seed in range(40):
            changed = augment.random_greys(pixels, rng=np.random.default_rng(seed)).astype(float)
            assert changed[60:, 90:].mean() >= changed[:30, :30].mean()
