"""Findings: pieces, sizes and axes against figures that can be worked out by hand."""

import numpy as np
import pytest
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from ml.findings import MAXIMUM_FINDINGS, find_regions, findings_cut, measure_axes, scaled_cut, union_mask
from ml.phantom import PhantomSpec, make_phantom
from ml.runtime import Cut, Thresholds


def cut(*, outline=0.5, peak=0.0, minimum_area_px=1):
    return Cut(outline=outline, peak=peak, minimum_area_px=minimum_area_px)


def probability(*rectangles, shape=(80, 90), value=0.9):
    field = np.zeros(shape, np.float32)
    for x, y, width, height in rectangles:
        field[y : y + height, x : x + width] = value
    return field


def disc(radius, *, side=101):
    y, x = np.mgrid[:side, :side] - side // 2
    return np.hypot(x, y) <= radius


def test_pieces_come_largest_first_with_their_boxes():
    regions = find_regions(probability((5, 6, 4, 3), (40, 20, 10, 20)), cut=cut(outline=0.5, minimum_area_px=1))
    assert [region.box for region in regions] == [(40, 20, 10, 20), (5, 6, 4, 3)]
    assert [region.area_px for region in regions] == [200, 12]
    assert regions[1].shape.shape == (3, 4)
    mask = regions[1].mask(height=80, width=90)
    assert mask.sum() == 12
    assert mask[6:9, 5:9].all()
    assert regions[0].mean_probability == pytest.approx(0.9)


@pytest.mark.parametrize(("minimum", "expected"), [(12, 2), (13, 1), (201, 0)])
def test_small_pieces_are_dropped_exactly_at_the_limit(minimum, expected):
    field = probability((5, 6, 4, 3), (40, 20, 10, 20))
    assert len(find_regions(field, cut=cut(outline=0.5, minimum_area_px=minimum))) == expected


@pytest.mark.parametrize(("threshold", "expected"), [(0.9, 1), (np.float32(0.9) + 1e-6, 0)])
def test_threshold_includes_its_own_value(threshold, expected):
    field = probability((5, 6, 4, 3))
    assert len(find_regions(field, cut=cut(outline=np.float32(threshold), minimum_area_px=1))) == expected


def test_corners_connect():
    assert len(find_regions(probability((5, 5, 5, 5), (10, 10, 5, 5)), cut=cut(outline=0.5, minimum_area_px=1))) == 1


def test_nothing_found_is_an_empty_tuple_and_an_empty_mask():
    regions = find_regions(probability(), cut=cut(outline=0.5, minimum_area_px=1))
    assert regions == ()
    assert union_mask(regions, height=80, width=90).max() == 0


def test_noise_gives_no_more_than_the_largest_twenty():
    field = np.zeros((200, 200), np.float32)
    field[::4, ::4] = 1.0
    field[100:103, 100:103] = 1.0
    regions = find_regions(field, cut=cut(outline=0.5, minimum_area_px=1))
    assert len(regions) == MAXIMUM_FINDINGS
    assert regions[0].area_px == 9


def test_union_holds_every_kept_pixel_and_no_other():
    field = probability((5, 6, 4, 3), (40, 20, 10, 20))
    regions = find_regions(field, cut=cut(outline=0.5, minimum_area_px=50))
    mask = union_mask(regions, height=80, width=90)
    assert set(np.unique(mask)) == {0, 255}
    assert np.count_nonzero(mask) == 200


def test_axes_of_a_single_pixel():
    axes = measure_axes(np.ones((1, 1), bool))
    assert axes.long == pytest.approx(np.sqrt(2))
    assert axes.short == pytest.approx(np.sqrt(2))


def test_axes_of_a_bar():
    axes = measure_axes(np.ones((1, 30), bool))
    assert axes.long == pytest.approx(np.hypot(30, 1))
    assert 0.9 < axes.short < 2.1


@pytest.mark.parametrize("radius", [4, 12.5, 40])
def test_axes_of_a_disc_are_its_diameter(radius):
    axes = measure_axes(disc(radius))
    assert axes.long == pytest.approx(2 * radius + 1, abs=1.3)
    assert axes.short == pytest.approx(2 * radius + 1, abs=1.6)


@pytest.mark.parametrize("angle", [0, 20, 45, 77, 90, 130])
def test_axes_of_an_ellipse_do_not_depend_on_its_direction(angle):
    y, x = np.mgrid[:121, :121] - 60.0
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    ellipse = ((x * c + y * s) / 40) ** 2 + ((y * c - x * s) / 15) ** 2 <= 1
    axes = measure_axes(ellipse)
    assert axes.long == pytest.approx(80, abs=2.5)
    assert axes.short == pytest.approx(30, abs=2.5)


def test_holes_and_bays_do_not_shorten_the_axes():
    ring = disc(30) & ~disc(20)
    assert measure_axes(ring) == measure_axes(disc(30))


def test_axes_follow_unequal_spacing():
    axes = measure_axes(np.ones((10, 10), bool), pixel_spacing_mm=(2.0, 0.5))
    assert axes.long == pytest.approx(np.hypot(20, 5))


def test_long_axis_is_the_greatest_distance_of_any_two_corners():
    generator = np.random.default_rng(5)
    for _ in range(20):
        mask = generator.random((14, 17)) < 0.2
        rows, columns = np.nonzero(mask)
        corners = np.concatenate([np.stack([columns + dx, rows + dy], 1) for dx in (0, 1) for dy in (0, 1)])
        axes = measure_axes(mask)
        assert axes.long == pytest.approx(pdist(corners[ConvexHull(corners).vertices]).max())
        assert 0 < axes.short <= axes.long + 1e-9


def test_empty_region_is_refused():
    with pytest.raises(ValueError, match="empty region"):
        measure_axes(np.zeros((5, 5), bool))


def test_minimum_area_grows_with_the_picture():
    former = {"outline": 0.5, "minimum_area_px": 20, "malignant": 0.5}
    thresholds = Thresholds.of_card({**former, "crop_minimum_area_px": 7})
    small = make_phantom(3, spec=PhantomSpec(size=256, nodules=())).pixels
    large = np.kron(small, np.ones((2, 2), np.uint8))
    at_256 = findings_cut(small, thresholds=thresholds).minimum_area_px
    assert findings_cut(large, thresholds=thresholds).minimum_area_px == pytest.approx(4 * at_256, rel=0.1)
    assert findings_cut(small[:128, :128], thresholds=thresholds).minimum_area_px == 7
    assert scaled_cut(cut(minimum_area_px=0), body_side_px=200).minimum_area_px == 1


def test_a_piece_without_a_sure_pixel_is_no_finding():
    field = probability((5, 6, 4, 3), (40, 20, 10, 20)) * np.float32(0.6)
    field[25, 45] = 0.95
    (region,) = find_regions(field, cut=cut(outline=0.5, peak=0.95))
    assert region.area_px == 200
    assert len(find_regions(field, cut=cut(outline=0.5))) == 2


def test_a_card_from_before_peaks_cuts_as_it_did():
    former = Thresholds.of_card({"outline": 0.9, "minimum_area_px": 24, "malignant": 0.5})
    assert former.cut(is_crop=True) == former.cut(is_crop=False) == Cut(outline=0.9, peak=0.9, minimum_area_px=24)
