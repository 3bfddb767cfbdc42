"""From a seed and a wish to a slice: the scene drawn, nodules planted, scanned, shown in a window."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont
from scipy import ndimage

from ml.phantom.canvas import Canvas, frequencies
from ml.phantom.chest import Scene, draw_anatomy, draw_chest
from ml.phantom.nodules import Nodule, NoduleSpec, plant
from ml.windows import WINDOWS, Window


@dataclass(frozen=True)
class PhantomSpec:
    """What to draw. ``None`` is drawn from the seed.

    ``size``: side of the square picture in pixels. ``level``: 0 is the aortic arch, 0.4 the hila, 0.7 the heart, 1
    the liver dome. ``nodules``: exactly these; ``()`` is a slice without tumour. ``nodule_count``: so many random
    ones when ``nodules`` is ``None``. ``noise_hu``: standard deviation of the noise in soft tissue.
    ``has_distractors``: effusion, scars, emphysema may be drawn, which are not tumours and not in the mask.
    """

    size: int = 256
    level: float | None = None
    window: str | Window | None = None
    nodules: tuple[NoduleSpec, ...] | None = None
    nodule_count: int | None = None
    field_of_view_mm: float | None = None
    noise_hu: float | None = None
    has_contrast_medium: bool | None = None
    has_distractors: bool = True


@dataclass(frozen=True)
class Phantom:
    """A slice: ``pixels`` uint8 (H,W), ``hu`` int16 (H,W), ``mask`` uint8 (H,W) 0/255, ``lung`` bool (H,W), spacing
    (row, column).

    The mask is the body of the nodule up to the pleura (half a pixel covered or more); spicules are outside it.
    """

    pixels: NDArray[np.uint8]
    hu: NDArray[np.int16]
    mask: NDArray[np.uint8]
    lung: NDArray[np.bool_]
    nodules: tuple[Nodule, ...]
    pixel_spacing_mm: tuple[float, float]
    level: float
    window: Window
    seed: int


def make_phantom(seed: int, *, spec: PhantomSpec | None = None) -> Phantom:
    """Draw one slice. The same seed and spec give the same pixels; about 45 ms for 256 x 256 on one core.

    Raises ``ValueError`` for a size below 64 or a level outside 0..1.
    """
    spec = spec or PhantomSpec()
    if spec.size < 64:
        raise ValueError(f"A phantom needs at least 64 pixels a side. Received: size={spec.size}")
    patient = np.random.default_rng([seed, 1])
    anatomy = draw_anatomy(patient)
    choices = np.random.default_rng([seed, 2])
    level = float(choices.uniform(0.0, 1.0)) if spec.level is None else spec.level
    if not 0.0 <= level <= 1.0:
        raise ValueError(f"The level of a phantom lies between 0 and 1. Received: level={level}")
    is_enhanced = bool(choices.random() < 0.5) if spec.has_contrast_medium is None else spec.has_contrast_medium
    window = _choose_window(choices, window=spec.window)
    body_width = 2 * (anatomy.cavity_half_width + anatomy.wall + anatomy.fat)
    drawn_fov = body_width * float(choices.choice([0.98, 1.04, 1.12, 1.2]) + choices.uniform(-0.03, 0.03))
    fov = drawn_fov if spec.field_of_view_mm is None else spec.field_of_view_mm
    shift = choices.uniform(-0.025, 0.025, 2) * fov
    noise_hu = float(choices.uniform(7.0, 32.0)) if spec.noise_hu is None else spec.noise_hu
    is_round = bool(choices.random() < 0.35)
    nodule_specs = spec.nodules
    if nodule_specs is None:
        drawn_count = int(choices.choice([0, 1, 1, 1, 2, 3]))
        nodule_specs = (NoduleSpec(),) * (drawn_count if spec.nodule_count is None else spec.nodule_count)

    canvas = Canvas(
        size=spec.size,
        fov=fov,
        centre=(float(shift[0]), float(shift[1]) + 12.0 + 0.25 * anatomy.table_gap),
        seed=seed,
        level=level,
    )
    if is_enhanced:
        anatomy = replace(anatomy, blood_hu=anatomy.contrast_hu)
    scene = draw_chest(canvas, anatomy=anatomy, level=level, seed=seed, has_distractors=spec.has_distractors)
    mask = np.zeros((spec.size, spec.size), np.uint8)
    planted: list[Nodule] = []
    for index, nodule_spec in enumerate(nodule_specs):
        nodule = plant(scene, spec=nodule_spec, rng=np.random.default_rng([seed, 3, index]), level=level, mask=mask)
        if nodule is not None:
            planted.append(nodule)
    hu = _acquire(scene, noise_hu=noise_hu, is_round=is_round, rng=canvas.rng)
    return Phantom(
        pixels=window.apply(hu),
        hu=hu,
        mask=mask,
        lung=scene.lung_distance < 0,
        nodules=tuple(planted),
        pixel_spacing_mm=(canvas.px, canvas.px),
        level=level,
        window=window,
        seed=seed,
    )


def make_series(seed: int, *, levels: tuple[float, ...], spec: PhantomSpec | None = None) -> tuple[Phantom, ...]:
    """Slices of one patient at these levels; a nodule with a ``level`` of its own shows only where the plane cuts
    it.
    """
    return tuple(make_phantom(seed, spec=replace(spec or PhantomSpec(), level=level)) for level in levels)


def label_synthetic(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy of ``pixels`` (H,W) with the word SYNTHETIC burnt in at the lower left, for every picture that people
    will see.
    """
    picture = PillowImage.fromarray(pixels, mode=None).convert("L")
    draw = ImageDraw.Draw(picture)
    text_px = max(9, round(pixels.shape[0] / 22))
    font = ImageFont.load_default(size=text_px)
    left, top, right, bottom = draw.textbbox((0, 0), "SYNTHETIC", font=font)
    x, y = max(2, text_px // 3), pixels.shape[0] - (bottom - top) - max(3, text_px // 2)
    draw.rectangle((x - 2, y - 2, x + right - left + 2, y + bottom - top + 2), fill=0)
    draw.text((x - left, y - top), "SYNTHETIC", fill=235, font=font)
    return np.asarray(picture, np.uint8).copy()


def _choose_window(rng: np.random.Generator, *, window: str | Window | None) -> Window:
    drawn = str(rng.choice(["lung", "lung", "wide", "wide", "soft_tissue"]))
    if isinstance(window, Window):
        return window
    return WINDOWS[window or drawn]


def _acquire(scene: Scene, *, noise_hu: float, is_round: bool, rng: np.random.Generator) -> NDArray[np.int16]:
    """What the scanner makes of the scene: blur of the reconstruction kernel, correlated noise, the scanner's range.

    The noise has the ramp-shaped power of filtered back-projection under a soft cut-off (Riederer 1978), not white.
    """
    canvas = scene.canvas
    blur_mm = rng.uniform(0.35, 0.75)
    hu = ndimage.gaussian_filter(scene.hu, blur_mm / canvas.px, truncate=2.5)
    frequency = frequencies(canvas.size) * np.float32(1 / canvas.px)
    cut_off = rng.uniform(0.22, 0.42)
    response = np.sqrt(frequency) * np.exp(-((frequency / np.float32(cut_off)) ** 2))
    # Less noise at the rim than behind the whole body, and little in air.
    middle = np.exp(-((np.hypot(canvas.x, canvas.y) / np.float32(170.0)) ** 2))
    amount = np.float32(noise_hu) * (np.float32(0.45) + np.float32(0.75) * middle)
    hu += canvas.filtered(response) * amount
    if is_round:
        # Some scanners reconstruct a disc only and leave the corners empty.
        circle = np.hypot(canvas.x - canvas.x.mean(), canvas.y - canvas.y.mean()) > canvas.size * canvas.px / 2
        hu[circle] = -1024.0
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
