"""The serving path: bytes of one slice in, class probabilities, outline, findings and activation out.

Touches neither database nor TensorFlow. The web's worker, ``manage.py analyse``, ``evaluate`` and ``benchmark`` all
run this one function.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.findings import Region, find_regions, findings_cut, union_mask
from ml.images import Slice, read_slice
from ml.input_statistics import InputStatistics, measure
from ml.runtime import Model, SliceClass, Thresholds, load_model

NORMAL = "normal"


@dataclass(frozen=True)
class FindingResult:
    """One outlined finding. ``box`` is x, y, width, height in pixels of the file; millimetres need pixel spacing."""

    box: tuple[int, int, int, int]
    area_px: int
    long_axis_px: float
    short_axis_px: float
    malignancy: float
    area_mm2: float | None
    long_axis_mm: float | None
    short_axis_mm: float | None


@dataclass(frozen=True)
class AnalysisResult:
    """What the model says about one slice, and with which version and thresholds.

    ``mask`` uint8 (H,W) 0/255 and ``activation`` uint8 (H,W) 0..255 have the size of the file; the activation shows
    where the model looked for its most probable class, which explains nothing and proves nothing.
    ``malignant_basis`` says in a sentence how ``malignant_probability`` came about. ``embedding`` float32 (512,) is
    what the classifier makes of the picture before it names classes; with ``input_statistics`` it tells whether what
    comes in still looks like what came before.
    """

    model_version: str
    probabilities: dict[str, float]
    malignant_probability: float
    malignant_basis: str
    findings: tuple[FindingResult, ...]
    mask: NDArray[np.uint8]
    activation: NDArray[np.uint8]
    duration_ms: int
    step_ms: dict[str, float]
    thresholds: Thresholds
    width: int
    height: int
    input_statistics: InputStatistics
    embedding: NDArray[np.float32]

    @property
    def top_class(self) -> str:
        return max(self.probabilities, key=lambda name: self.probabilities[name])

    @property
    def confidence(self) -> float:
        """The probability of the most probable class, 0..1."""
        return self.probabilities[self.top_class]

    def to_json(self) -> dict[str, Any]:
        """The keys of a line of ``manage.py analyse --json``, without ``file``."""
        return {
            "model_version": self.model_version,
            "probabilities": {name: round(value, 6) for name, value in self.probabilities.items()},
            "malignant_probability": round(self.malignant_probability, 6),
            "findings": [_finding_json(finding) for finding in self.findings],
            "duration_ms": self.duration_ms,
        }


def analyse(
    source: bytes | Path,
    *,
    pixel_spacing_mm: tuple[float, float] | None = None,
    model: Model | None = None,
    load: Callable[[], Model] = load_model,
) -> AnalysisResult:
    """Analyse one slice: PNG, JPEG or DICOM as bytes or a path.

    Without a ``model``, ``load`` says which: the portal's way is ``ml.registry.serving_model``.
    ``pixel_spacing_mm`` (row, column) goes before what the file itself says. ``duration_ms`` is the time from bytes to
    result with the model already loaded. Raises :class:`ml.errors.MlError` with a sentence for the user.
    """
    model = model or load()
    clock = _Clock()
    slice_ = read_slice(source)
    clock.lap("read")
    slice_class = model.classify(slice_.pixels)
    clock.lap("classify")
    probability = model.outline(slice_.pixels)
    clock.lap("outline")
    regions = find_regions(probability, cut=findings_cut(slice_.pixels, thresholds=model.thresholds))
    spacing = pixel_spacing_mm or slice_.pixel_spacing_mm
    findings = tuple(_finding(slice_, region=region, spacing=spacing, model=model) for region in regions)
    clock.lap("findings")
    activation = _activation(slice_class, height=slice_.height, width=slice_.width)
    probabilities = dict(zip(model.classes, slice_class.probabilities.astype(float).tolist(), strict=True))
    malignant, basis = judge(probabilities, malignancies=[finding.malignancy for finding in findings])
    mask = union_mask(regions, height=slice_.height, width=slice_.width)
    clock.lap("compose")
    statistics = measure(slice_.pixels, source_format=slice_.format)
    clock.lap("measure")
    return AnalysisResult(
        model_version=model.version,
        probabilities=probabilities,
        malignant_probability=malignant,
        malignant_basis=basis,
        findings=findings,
        mask=mask,
        activation=activation,
        duration_ms=round(clock.total_ms),
        step_ms=clock.steps,
        thresholds=model.thresholds,
        width=slice_.width,
        height=slice_.height,
        input_statistics=statistics,
        embedding=slice_class.embedding,
    )


def judge(probabilities: dict[str, float], *, malignancies: list[float]) -> tuple[float, str]:
    """The verdict on the slice as a whole, 0..1, and the sentence that says how it came about.

    It is the mean of two opinions that come from different networks and different data: the share of the cancer
    classes, and the malignancy of the most suspicious finding (0 where nothing was outlined). One alone cannot push it
    beyond one half: the classifier has seen few normal chests, and the outline misses small tumours.
    """
    by_class = min(1.0, max(0.0, 1.0 - probabilities[NORMAL]))
    by_finding = max(malignancies, default=0.0)
    if not malignancies:
        found = "0.00, because nothing was outlined"
    elif len(malignancies) == 1:
        found = f"{by_finding:.2f}, the malignancy of the one outlined finding"
    else:
        found = f"{by_finding:.2f}, the malignancy of the most suspicious of {len(malignancies)} outlined findings"
    basis = f"The mean of {by_class:.2f}, the cancer classes together, and {found}."
    return (by_class + by_finding) / 2, basis


class _Clock:
    """Milliseconds of each step since the one before."""

    def __init__(self) -> None:
        self._started = self._last = time.perf_counter()
        self.steps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.steps[name] = round((now - self._last) * 1000, 2)
        self._last = now

    @property
    def total_ms(self) -> float:
        return (self._last - self._started) * 1000


def _finding(slice_: Slice, *, region: Region, spacing: tuple[float, float] | None, model: Model) -> FindingResult:
    axes = region.axes()
    mask = region.mask(height=slice_.height, width=slice_.width)
    axes_mm = region.axes(pixel_spacing_mm=spacing) if spacing else None
    return FindingResult(
        box=region.box,
        area_px=region.area_px,
        long_axis_px=axes.long,
        short_axis_px=axes.short,
        malignancy=model.malignancy(slice_.pixels, mask=mask),
        area_mm2=region.area_px * spacing[0] * spacing[1] if spacing else None,
        long_axis_mm=axes_mm.long if axes_mm else None,
        short_axis_mm=axes_mm.short if axes_mm else None,
    )


def _activation(slice_class: SliceClass, *, height: int, width: int) -> NDArray[np.uint8]:
    """Grad-CAM of the most probable class over the picture, its peak at 255; all 0 where nothing speaks for it."""
    top = int(np.argmax(slice_class.probabilities))
    heat = np.maximum(slice_class.activation_over(top, height=height, width=width), 0)
    peak = float(heat.max())
    if peak <= 0:
        return np.zeros((height, width), np.uint8)
    return np.rint(heat * (255.0 / peak)).astype(np.uint8)


def _finding_json(finding: FindingResult) -> dict[str, Any]:
    def rounded(value: float | None) -> float | None:
        return None if value is None else round(value, 3)

    return {
        "box": list(finding.box),
        "area_px": finding.area_px,
        "long_axis_px": rounded(finding.long_axis_px),
        "short_axis_px": rounded(finding.short_axis_px),
        "malignancy": round(finding.malignancy, 6),
        "area_mm2": rounded(finding.area_mm2),
        "long_axis_mm": rounded(finding.long_axis_mm),
        "short_axis_mm": rounded(finding.short_axis_mm),
    }
