"""The synthetic slices: exact masks, same seed same pixels, windows, plausible Hounsfield units."""

import time
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from ml.phantom import NoduleSpec, PhantomSpec, label_synthetic, make_phantom, make_series
from ml.windows import WINDOWS

SPEC = PhantomSpec(size=192, level=0.5, window="wide")


def test_same_seed_gives_same_pixels():
    first, second = make_phantom(7, spec=SPEC), make_phantom(7, spec=SPEC)
    assert np.array_equal(first.pixels, second.pixels)
    assert np.array_equal(first.mask, second.mask)
    assert first.nodules == second.nodules


def test_other_seed_gives_another_chest():
    assert not np.array_equal(make_phantom(7, spec=SPEC).lung, make_phantom(8, spec=SPEC).lung)


@pytest.mark.parametrize("size", [64, 96, 256, 331])
def test_shapes_and_types(size):
    phantom = make_phantom(3, spec=PhantomSpec(size=size))
    for array, kind in ((phantom.pixels, np.uint8), (phantom.hu, np.int16), (phantom.mask, np.uint8)):
        assert array.shape == (size, size)
        assert array.dtype == kind
    assert set(np.unique(phantom.mask)) <= {0, 255}
    assert 0.3 < phantom.pixel_spacing_mm[0] * size / 400 < 1.6


@pytest.mark.parametrize(("size", "level"), [(63, 0.5), (128, -0.1), (128, 1.01)])
def test_impossible_wishes_are_refused(size, level):
    with pytest.raises(ValueError, match="Received"):
        make_phantom(1, spec=PhantomSpec(size=size, level=level))


@pytest.mark.parametrize("level", [0.0, 0.2, 0.33, 0.45, 0.6, 0.8, 1.0])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_slice_without_nodules_has_two_dark_lungs_and_an_empty_mask(seed, level):
    phantom = make_phantom(seed, spec=replace(SPEC, level=level, nodules=(), has_distractors=False))
    assert phantom.mask.max() == 0
    assert phantom.nodules == ()
    columns = np.flatnonzero(phantom.lung.any(axis=0))
    half = SPEC.size // 2
    assert columns.min() < half - 10
    assert columns.max() > half + 10
    assert -930 < np.median(phantom.hu[phantom.lung]) < -700


def test_lungs_are_inside_a_body_with_bone_and_air_outside():
    phantom = make_phantom(11, spec=replace(SPEC, nodules=(), noise_hu=5.0))
    assert (phantom.hu > 350).sum() > 150
    assert np.median(phantom.hu[:3]) < -900
    body = ndimage.binary_fill_holes(phantom.hu > -300)
    assert (phantom.lung & ~body).sum() < 0.02 * phantom.lung.sum()


@pytest.mark.parametrize("kind", ["solid", "part_solid", "ground_glass", "spiculated", "calcified", "cavitary"])
def test_mask_is_exactly_where_the_nodule_changed_the_slice(kind):
    nodule = NoduleSpec(diameter_mm=26, kind=kind, place="inner", side="left")
    spec = replace(SPEC, noise_hu=0.0, has_distractors=False)
    # Same chest, same noise stream position: the scene before noise differs by the nodule alone.
    planted = make_phantom(21, spec=replace(spec, nodules=(nodule,)))
    assert len(planted.nodules) == 1
    area = np.count_nonzero(planted.mask)
    assert area == planted.nodules[0].area_px
    expected = np.pi * 13**2 / planted.pixel_spacing_mm[0] ** 2
    assert 0.6 * expected < area < 1.6 * expected
    inside = np.median(planted.hu[planted.mask > 0])
    ring = ndimage.binary_dilation(planted.mask > 0, iterations=9) & ~ndimage.binary_dilation(
        planted.mask > 0, iterations=6
    )
    outside = np.median(planted.hu[ring & planted.lung])
    if kind != "cavitary":
        assert inside > outside + 80
    assert ndimage.label(planted.mask)[1] == 1


@pytest.mark.parametrize("place", ["inner", "juxtapleural", "central"])
def test_nodule_lies_where_it_was_asked_for(place):
    found = 0
    for seed in range(6):
        spec = replace(SPEC, nodules=(NoduleSpec(diameter_mm=18, kind="solid", place=place),))
        phantom = make_phantom(seed, spec=spec)
        for nodule in phantom.nodules:
            found += 1
            # A nodule on the pleura may reach into it, no further than a pixel.
            reach = ndimage.binary_dilation(phantom.lung, iterations=1)
            assert not (phantom.mask > 0)[~reach].any()
            near_edge = ndimage.binary_dilation(phantom.mask > 0, iterations=2) & ~phantom.lung
            assert near_edge.any() == (place != "inner")
            assert nodule.place == place
    assert found >= 5


def test_side_is_the_patients_own():
    for seed in range(4):
        phantom = make_phantom(seed, spec=replace(SPEC, nodules=(NoduleSpec(diameter_mm=12, side="right"),)))
        assert phantom.nodules[0].centre_px[0] < SPEC.size / 2


def test_centre_lies_in_the_mask():
    phantom = make_phantom(5, spec=replace(SPEC, nodules=(NoduleSpec(diameter_mm=22, kind="solid", place="inner"),)))
    x, y = phantom.nodules[0].centre_px
    assert phantom.mask[round(y), round(x)] == 255


def test_series_cuts_a_nodule_where_it_is_and_nowhere_else():
    nodule = NoduleSpec(diameter_mm=30, kind="solid", place="inner", side="left", level=0.5)
    series = make_series(9, levels=(0.3, 0.46, 0.5, 0.7), spec=replace(SPEC, nodules=(nodule,)))
    areas = [int(np.count_nonzero(phantom.mask)) for phantom in series]
    assert areas[0] == areas[3] == 0
    assert 0 < areas[1] < areas[2]


def test_nodule_count_is_obeyed():
    for count in (0, 2):
        assert len(make_phantom(12, spec=replace(SPEC, nodule_count=count)).nodules) == count


def test_random_slices_hold_both_malignant_and_benign_nodules():
    nodules = [n for seed in range(40) for n in make_phantom(seed, spec=PhantomSpec(size=96)).nodules]
    share = np.mean([nodule.is_malignant for nodule in nodules])
    assert 0.2 < share < 0.8


def test_windows_show_what_their_names_say():
    spec = replace(SPEC, nodules=(), has_distractors=False)
    grey = {name: make_phantom(4, spec=replace(spec, window=name)) for name in WINDOWS}
    lung = {name: np.median(phantom.pixels[phantom.lung]) for name, phantom in grey.items()}
    assert lung["soft_tissue"] == 0
    assert 50 < lung["lung"] < 120
    assert 5 < lung["wide"] < 60


def test_noise_is_correlated_and_as_strong_as_asked():
    spec = replace(SPEC, nodules=(), has_distractors=False, size=256)
    loud, quiet = make_phantom(6, spec=replace(spec, noise_hu=40.0)), make_phantom(6, spec=replace(spec, noise_hu=0.0))
    noise = loud.hu.astype(float) - quiet.hu
    middle = noise[96:160, 96:160]
    assert 20 < middle.std() < 60
    neighbours = np.corrcoef(middle[:, :-1].ravel(), middle[:, 1:].ravel())[0, 1]
    assert neighbours > 0.15


def test_label_is_burnt_into_a_copy_only():
    pixels = make_phantom(1, spec=SPEC).pixels
    before = pixels.copy()
    labelled = label_synthetic(pixels)
    assert np.array_equal(pixels, before)
    changed = np.argwhere(labelled != pixels)
    assert len(changed) > 100
    assert changed[:, 0].min() > 0.85 * SPEC.size
    assert labelled.max() >= 235


def test_a_slice_takes_a_fraction_of_a_second_of_processor_time():
    make_phantom(0)
    started = time.process_time()
    for seed in range(5):
        make_phantom(100 + seed)
    assert (time.process_time() - started) / 5 < 0.4
