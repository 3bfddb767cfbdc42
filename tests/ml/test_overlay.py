"""The pictures for people are of the right size, mark the right place, and leave the rest alone."""

import io

import numpy as np
import pytest
from PIL import Image

from ml.overlay import EDGE_COLOUR, OUTLINE_COLOUR, draw_heat, draw_overlay

PIXELS = np.full((100, 140), 90, np.uint8)


def opened(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def with_square() -> np.ndarray:
    mask = np.zeros_like(PIXELS)
    mask[30:60, 50:90] = 255
    return mask


def is_outline(picture: np.ndarray) -> np.ndarray:
    return (picture == OUTLINE_COLOUR).all(axis=2)


def test_without_findings_the_slice_stays_grey():
    picture = opened(draw_overlay(PIXELS, np.zeros_like(PIXELS)))
    assert (picture == 90).all()


def test_small_slices_are_enlarged_by_a_whole_number_and_large_ones_kept():
    assert opened(draw_overlay(PIXELS, with_square())).shape == (400, 560, 3)
    assert opened(draw_overlay(PIXELS, with_square(), smallest_side_px=1)).shape == (100, 140, 3)
    assert opened(draw_overlay(np.zeros((700, 600), np.uint8), np.zeros((700, 600), np.uint8))).shape == (700, 600, 3)


def test_the_line_runs_around_the_mask_and_not_over_it():
    picture = opened(draw_overlay(PIXELS, with_square(), smallest_side_px=1))
    marked = is_outline(picture)
    assert marked[29, 70]
    assert marked[45, 49]
    assert not marked[32:58, 52:88].any()
    assert (picture[32:58, 52:88] == 90).all()
    assert (picture[:20, :40] == 90).all()


def test_findings_are_numbered_even_at_the_border():
    mask = np.zeros_like(PIXELS)
    mask[:10, 130:] = 255
    without = opened(draw_overlay(PIXELS, mask, smallest_side_px=1))
    numbered = opened(draw_overlay(PIXELS, mask, boxes=[(130, 0, 10, 10)], smallest_side_px=1))
    assert (numbered == EDGE_COLOUR).all(axis=2).sum() > (without == EDGE_COLOUR).all(axis=2).sum()


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="one shape"):
        draw_overlay(PIXELS, np.zeros((5, 5), np.uint8))


def test_heat_is_see_through_where_nothing_happened_and_grows_denser():
    activation = np.tile(np.arange(256, dtype=np.uint8), (10, 1))
    heat = opened(draw_heat(activation))
    assert heat.shape == (10, 256, 4)
    assert heat[0, 0, 3] == 0
    assert (np.diff(heat[0, :, 3].astype(int)) >= 0).all()
    assert 100 < heat[0, -1, 3] < 200
    luminance = heat[0, :, :3] @ np.array([0.3, 0.59, 0.11])
    assert (np.diff(luminance) > -1.0).all()
