"""The figures of a picture are those that one would count by hand."""

import json

import numpy as np
import pytest

from ml.input_statistics import PERCENTILES, InputStatistics, measure


def test_the_figures_are_those_of_the_pixels() -> None:
    pixels = np.random.default_rng(3).gamma(2, 30, (90, 130)).clip(0, 255).astype(np.uint8)
    figures = measure(pixels, source_format="DICOM")
    assert (figures.width, figures.height, figures.source_kind) == (130, 90, "dicom")
    assert figures.mean_grey == pytest.approx(pixels.mean())
    assert figures.std_grey == pytest.approx(pixels.std())
    assert figures.percentiles == tuple(np.percentile(pixels, PERCENTILES, method="inverted_cdf"))
    counted, _edges = np.histogram(pixels, bins=16, range=(0, 256))
    assert figures.histogram == pytest.approx(counted / pixels.size)


@pytest.mark.parametrize("sigma", [3.0, 12.0])
def test_noise_is_measured_as_its_standard_deviation(sigma: float) -> None:
    pixels = np.rint(np.random.default_rng(0).normal(128, sigma, (700, 900))).astype(np.uint8)
    assert measure(pixels, source_format="PNG").noise_grey == pytest.approx(sigma, rel=0.05)


def test_a_gentle_slope_is_no_noise() -> None:
    slope = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    assert measure(slope, source_format="PNG").noise_grey == 0


def test_the_figures_survive_being_stored() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (64, 80), dtype=np.uint8)
    stored = measure(pixels, source_format="JPEG").to_json()
    back = InputStatistics.from_json(json.loads(json.dumps(stored)))
    assert back.to_json() == stored
    assert back.source_kind == "jpeg"
