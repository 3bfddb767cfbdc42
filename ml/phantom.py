"""Synthetic chest-CT slices with exact tumour masks, deterministic by seed.

The phantom is drawn in millimetres and in Hounsfield units (HU) from signed distances to simple solids (body, chest
wall, lungs, mediastinum, bones) and from a three-dimensional tree of vessels and bronchi that the slice plane cuts.
One seed is one patient: the same seed at another ``level`` is another slice of the same chest. It feeds the
fixtures, the demo, the tests and the outline training; what is made for people passes through
:func:`label_synthetic` first.

Image convention as in radiology: the patient's right side lies on the left of the picture, the front at the top.
Typical HU after Hounsfield's scale: air -1000, lung -850, fat -100, water 0, muscle 50, marrow 200, cortical bone 900.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont
from scipy import fft, ndimage

from ml.windows import WINDOWS, Window

FloatArray = NDArray[np.float32]
NoduleKind = Literal["solid", "part_solid", "ground_glass", "spiculated", "calcified", "cavitary"]
Place = Literal["inner", "juxtapleural", "central"]

THORAX_HEIGHT_MM: Final = 220.0
SLAB_MM: Final = 7.0
NODULE_KINDS: Final[tuple[NoduleKind, ...]] = (
    "solid",
    "part_solid",
    "ground_glass",
    "spiculated",
    "calcified",
    "cavitary",
)
PLACES: Final[tuple[Place, ...]] = ("inner", "juxtapleural", "central")
# How often a finding of this kind is malignant in the phantom's world; the order of the kinds follows the
# Fleischner reading of risk.
MALIGNANT_SHARE: Final[Mapping[NoduleKind, float]] = {
    "solid": 0.45,
    "part_solid": 0.75,
    "ground_glass": 0.4,
    "spiculated": 0.95,
    "calcified": 0.02,
    "cavitary": 0.8,
}


@dataclass(frozen=True)
class NoduleSpec:
    """What to plant. ``None`` is drawn from the seed. ``level`` is the level of the centre (``None``: in the plane
    of the slice).
    """

    diameter_mm: float | None = None
    kind: NoduleKind | None = None
    place: Place | None = None
    side: Literal["left", "right"] | None = None
    level: float | None = None


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
class Nodule:
    """A planted finding. Centre in pixels (x to the right, y down); ``area_px`` counts its own pixels in the mask."""

    centre_px: tuple[float, float]
    diameter_mm: float
    kind: NoduleKind
    place: Place
    is_malignant: bool
    area_px: int


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


@dataclass(frozen=True)
class _Anatomy:
    """One patient's measures, in millimetres unless named otherwise."""

    cavity_half_width: float
    cavity_half_depth: float
    cavity_power: float
    wall: float
    fat: float
    breast: float
    body_power: float
    bumps: tuple[tuple[float, float], ...]
    lateral_tilt: float
    heart_scale: float
    heart_angle: float
    aorta_radius: float
    trachea_radius: float
    vertebra_radius: float
    rib_phase: float
    rib_count: int
    lung_hu: float
    muscle_hu: float
    blood_hu: float
    contrast_hu: float
    table_gap: float
    table_radius: float
    dependent_hu: float


def make_phantom(seed: int, *, spec: PhantomSpec | None = None) -> Phantom:
    """Draw one slice. The same seed and spec give the same pixels; about 45 ms for 256 x 256 on one core.

    Raises ``ValueError`` for a size below 64 or a level outside 0..1.
    """
    spec = spec or PhantomSpec()
    if spec.size < 64:
        raise ValueError(f"A phantom needs at least 64 pixels a side. Received: size={spec.size}")
    patient = np.random.default_rng([seed, 1])
    anatomy = _draw_anatomy(patient)
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

    canvas = _Canvas(
        size=spec.size,
        fov=fov,
        centre=(float(shift[0]), float(shift[1]) + 12.0 + 0.25 * anatomy.table_gap),
        seed=seed,
        level=level,
    )
    if is_enhanced:
        anatomy = replace(anatomy, blood_hu=anatomy.contrast_hu)
    scene = _draw_chest(canvas, anatomy=anatomy, level=level, seed=seed, has_distractors=spec.has_distractors)
    mask = np.zeros((spec.size, spec.size), np.uint8)
    planted: list[Nodule] = []
    for index, nodule_spec in enumerate(nodule_specs):
        nodule = _plant(scene, spec=nodule_spec, rng=np.random.default_rng([seed, 3, index]), level=level, mask=mask)
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


# --- the drawing board ----------------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def _frequencies(size: int) -> FloatArray:
    """Radial frequency in cycles a pixel for ``rfft2`` of a square of this size: (size, size // 2 + 1)."""
    return np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]).astype(np.float32)


class _Canvas:
    """Millimetre coordinates of the pixels, and the slice's own random stream. Origin: the middle of the chest
    cavity.
    """

    def __init__(self, *, size: int, fov: float, centre: tuple[float, float], seed: int, level: float) -> None:
        self.size = size
        self.px = float(np.float32(fov / size))
        steps = (np.arange(size, dtype=np.float32) + 0.5 - size / 2) * np.float32(self.px)
        self.x = (steps + np.float32(centre[0]))[None, :]
        self.y = (steps + np.float32(centre[1]))[:, None]
        self.left = float(self.x[0, 0]) - self.px / 2
        self.top = float(self.y[0, 0]) - self.px / 2
        self.rng = np.random.default_rng([seed, 4, round(level * 10_000)])

    def cover(self, distance: FloatArray) -> FloatArray:
        """Share of each pixel (0..1) that lies inside a surface, from its signed distance in millimetres (inside
        negative).
        """
        return np.clip(np.float32(0.5) - distance * np.float32(1.0 / self.px), 0, 1)

    def ellipse(self, cx: float, cy: float, rx: float, ry: float, *, angle: float = 0.0) -> FloatArray:
        """Signed distance to an ellipse, turned by ``angle`` radians (first-order approximation)."""
        x, y = self.x - np.float32(cx), self.y - np.float32(cy)
        if angle:
            c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
            x, y = x * c + y * s, y * c - x * s
        u, v = x * np.float32(1 / rx), y * np.float32(1 / ry)
        k0 = np.sqrt(u * u + v * v) + np.float32(1e-6)
        u *= np.float32(1 / rx)
        v *= np.float32(1 / ry)
        return k0 * (k0 - 1) / (np.sqrt(u * u + v * v) + np.float32(1e-6))

    def circle(self, cx: float, cy: float, r: float) -> FloatArray:
        return np.sqrt((self.x - np.float32(cx)) ** 2 + (self.y - np.float32(cy)) ** 2) - np.float32(r)

    def capsule(self, a: tuple[float, float], b: tuple[float, float], r: float) -> FloatArray:
        """Signed distance to a line from ``a`` to ``b`` with round ends of radius ``r``."""
        dx, dy = b[0] - a[0], b[1] - a[1]
        x, y = self.x - np.float32(a[0]), self.y - np.float32(a[1])
        t = np.clip((x * np.float32(dx) + y * np.float32(dy)) * np.float32(1 / (dx * dx + dy * dy + 1e-6)), 0, 1)
        x, y = x - t * np.float32(dx), y - t * np.float32(dy)
        return np.sqrt(x * x + y * y) - np.float32(r)

    def cloud(self, scale_mm: float) -> FloatArray:
        """Smooth noise with mean 0, standard deviation 1 and structures of about ``scale_mm``."""
        return self.filtered(np.exp(-0.5 * (_frequencies(self.size) * np.float32(2.7 * scale_mm / self.px)) ** 2))

    def filtered(self, response: FloatArray) -> FloatArray:
        """White noise with this frequency response, standard deviation 1."""
        white = self.rng.standard_normal((self.size, self.size), dtype=np.float32)
        field = fft.irfft2(fft.rfft2(white) * response, s=(self.size, self.size)).astype(np.float32)
        return field / np.float32(field.std() + 1e-9)

    def strokes(self, pieces: FloatArray) -> FloatArray:
        """Coverage 0..1 of round strokes: rows x0, y0, x1, y1, radius (all mm), weight 0..1. Drawn twice as large,
        then averaged.
        """
        over = 2 if self.size >= 192 else 4
        scale = over / self.px
        sheet = PillowImage.new("L", (self.size * over, self.size * over), 0)
        draw = ImageDraw.Draw(sheet)
        ends = (pieces[:, :4] - np.array([self.left, self.top] * 2, np.float32)) * np.float32(scale)
        diameters = pieces[:, 4] * np.float32(2 * scale)
        fills = np.rint(255 * pieces[:, 5] * np.clip(diameters, 0.15, 1)).astype(int)
        order = np.argsort(fills, kind="stable")
        widths = np.maximum(1, np.rint(diameters)).astype(int)
        for (x0, y0, x1, y1), width, fill in zip(
            ends[order].tolist(), widths[order].tolist(), fills[order].tolist(), strict=True
        ):
            draw.line((x0, y0, x1, y1), fill=fill, width=width)
            if width > 3:
                r = width / 2
                draw.ellipse((x0 - r, y0 - r, x0 + r, y0 + r), fill=fill)
                draw.ellipse((x1 - r, y1 - r, x1 + r, y1 + r), fill=fill)
        return np.asarray(sheet.reduce(over), np.float32) * np.float32(1 / 255)


@dataclass(frozen=True)
class _Scene:
    """The drawn chest before noise: ``hu`` is changed in place by what is planted later."""

    canvas: _Canvas
    anatomy: _Anatomy
    hu: FloatArray
    cavity_distance: FloatArray
    lung_distance: FloatArray


def _blend(hu: FloatArray, cover: FloatArray, value: float | FloatArray) -> None:
    hu += cover * (value - hu)


def _smooth_min(a: FloatArray, b: FloatArray, *, k: float) -> FloatArray:
    """Union of two distances whose edge is rounded over ``k`` millimetres (polynomial smooth minimum)."""
    h = np.maximum(np.float32(k) - np.abs(a - b), 0) * np.float32(1 / k)
    return np.minimum(a, b) - h * h * np.float32(k / 4)


def _step(low: float, high: float, value: float) -> float:
    t = min(1.0, max(0.0, (value - low) / (high - low)))
    return t * t * (3 - 2 * t)


def _angle_from_front(angle: FloatArray, *, absolute: bool) -> FloatArray:
    """Angle around the chest measured from the breastbone: -pi..pi, or 0..pi without its side."""
    turned = angle + np.float32(np.pi / 2)
    turned = np.where(turned > np.float32(np.pi), turned - np.float32(2 * np.pi), turned)
    return np.abs(turned) if absolute else turned


def _choose_window(rng: np.random.Generator, *, window: str | Window | None) -> Window:
    drawn = str(rng.choice(["lung", "lung", "wide", "wide", "soft_tissue"]))
    if isinstance(window, Window):
        return window
    return WINDOWS[window or drawn]


def _draw_anatomy(rng: np.random.Generator) -> _Anatomy:
    half_width = rng.uniform(116, 142)
    return _Anatomy(
        cavity_half_width=half_width,
        cavity_half_depth=half_width * rng.uniform(0.66, 0.8),
        cavity_power=rng.uniform(2.15, 2.6),
        wall=rng.uniform(14, 22),
        fat=rng.uniform(4, 26),
        breast=max(0.0, rng.uniform(-25, 32)),
        body_power=rng.uniform(2.1, 2.6),
        bumps=tuple((rng.uniform(0, 0.012), rng.uniform(0, 2 * np.pi)) for _ in range(5)),
        lateral_tilt=rng.uniform(-0.04, 0.04),
        heart_scale=rng.uniform(0.86, 1.1),
        heart_angle=rng.uniform(0.45, 0.85),
        aorta_radius=rng.uniform(11, 15),
        trachea_radius=rng.uniform(7.5, 10),
        vertebra_radius=rng.uniform(14.5, 18),
        rib_phase=rng.uniform(0, 1),
        rib_count=int(rng.integers(6, 9)),
        lung_hu=rng.uniform(-890, -800),
        muscle_hu=rng.uniform(40, 62),
        blood_hu=rng.uniform(35, 48),
        contrast_hu=rng.uniform(130, 260),
        table_gap=rng.uniform(0, 10),
        table_radius=rng.uniform(230, 420),
        dependent_hu=rng.uniform(20, 130),
    )


# --- the chest ------------------------------------------------------------------------------------------------------


def _draw_chest(canvas: _Canvas, *, anatomy: _Anatomy, level: float, seed: int, has_distractors: bool) -> _Scene:
    a = anatomy
    shrink = 0.8 + 0.2 * _step(0.0, 0.42, level) - 0.02 * _step(0.85, 1.0, level)
    half_width, half_depth = a.cavity_half_width * shrink, a.cavity_half_depth * (0.86 + 0.14 * _step(0.0, 0.5, level))
    # Shoulder muscles and blades thicken the wall of the upper slices.
    a = replace(a, wall=a.wall + 9 * (1 - _step(0.15, 0.6, level)))
    x, y = canvas.x, canvas.y
    radius = np.hypot(x, y)
    angle = np.arctan2(y, x)
    soft = canvas.cloud(9.0)
    fine = canvas.cloud(2.2)

    u, v = np.abs(x) * np.float32(1 / half_width), np.abs(y) * np.float32(1 / half_depth)
    power = np.float32(a.cavity_power)
    rho = (u**power + v**power) ** np.float32(1 / power) + np.float32(1e-4)
    # The lungs bulge backwards on either side of the spine.
    from_back = np.abs(angle - np.float32(np.pi / 2))
    rho /= 1 + np.float32(0.07) * np.exp(-(((from_back - np.float32(0.62)) * 3) ** 2))
    cavity = radius - radius / rho
    body = _body_distance(a, radius=radius, angle=angle, x=x, y=y)

    hu = np.full((canvas.size, canvas.size), -1000.0, np.float32)
    _draw_table(canvas, a, hu=hu)
    cover_body = canvas.cover(body)
    _blend(hu, cover_body, -102 + 5 * soft)
    _blend(hu, cover_body * canvas.cover(-body - np.float32(1.6)), 15.0)
    # Muscle lies under fat that is thicker at the flanks and the front, and is parted by thin curved sheets of fat.
    depth = np.float32(a.fat) * (1 + np.float32(0.25) * np.cos(2 * angle)) + np.float32(1.2) * soft
    sheets = np.clip(1.0 - np.abs(soft) * 5, 0, 1) * np.float32(0.75) * (cavity > 12)
    muscle = canvas.cover(np.maximum(body + depth, cavity - np.float32(a.wall + 14)))
    _blend(hu, muscle * (1 - sheets), a.muscle_hu + 4 * fine)
    _blend(hu, canvas.cover(cavity) * cover_body, -85 + 8 * soft)

    spine_y = half_depth - 2.2 * a.vertebra_radius
    mediastinum = _draw_mediastinum(
        canvas, a, hu=hu, level=level, depth=half_depth, spine_y=spine_y, inside=canvas.cover(cavity)
    )
    rind = cavity + np.float32(2.2)
    # Rounded intersection of "inside the cavity" and "outside the mediastinum".
    lung = -_smooth_min(-rind, mediastinum, k=9.0)
    in_lung = canvas.cover(lung)
    dependent = np.clip((y - np.float32(0.15 * half_depth)) * np.float32(1 / half_depth), 0, 1) ** 2
    parenchyma = a.lung_hu + 12 * soft + 14 * fine + np.float32(a.dependent_hu) * dependent
    if has_distractors:
        parenchyma = _lung_changes(canvas, parenchyma=parenchyma, lung=lung, cavity=cavity, half_depth=half_depth)
    _blend(hu, in_lung, parenchyma)
    _draw_tree(canvas, a, hu=hu, level=level, in_lung=in_lung, cavity=cavity, seed=seed, half_width=half_width)
    _draw_airways(canvas, a, hu=hu, level=level, depth=half_depth)
    _draw_ribs(
        canvas, a, hu=hu, level=level, cavity=cavity, angle=angle, radius=radius, fine=fine, half_depth=half_depth
    )
    _draw_spine(canvas, a, hu=hu, spine_y=spine_y, level=level, fine=fine)
    return _Scene(canvas=canvas, anatomy=a, hu=hu, cavity_distance=cavity, lung_distance=lung)


def _body_distance(a: _Anatomy, *, radius: FloatArray, angle: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    half_width = a.cavity_half_width + a.wall + a.fat
    half_depth = a.cavity_half_depth + a.wall * 0.8 + a.fat * 0.8
    power = np.float32(a.body_power)
    shifted = y - np.float32(7.0)
    rho = (np.abs(x / half_width) ** power + np.abs(shifted / half_depth) ** power) ** np.float32(1 / power)
    bump = np.zeros_like(rho)
    for order, (size, phase) in enumerate(a.bumps, start=2):
        bump += np.float32(size) * np.cos(np.float32(order) * angle + np.float32(phase))
    if a.breast > 0:
        from_front = _angle_from_front(angle, absolute=False)
        for side in (-0.95, 0.95):
            off = from_front - np.float32(side)
            bump += np.float32(a.breast / half_depth) * np.exp(-((off * np.float32(2.6)) ** 2))
    rho = rho / (1 + bump) + np.float32(1e-4)
    return radius - radius / rho


def _draw_table(canvas: _Canvas, a: _Anatomy, *, hu: FloatArray) -> None:
    """The couch: two thin bright shells with foam between, concave upwards."""
    bottom = a.cavity_half_depth + a.wall * 0.8 + a.fat * 0.8 + 9 + a.table_gap
    shell = np.hypot(canvas.x, canvas.y - np.float32(bottom - a.table_radius)) - np.float32(a.table_radius)
    below = canvas.y > np.float32(bottom - 55)
    thickness = 26.0
    _blend(hu, canvas.cover(np.abs(shell - np.float32(thickness / 2)) - np.float32(thickness / 2)) * below, -930.0)
    _blend(hu, canvas.cover(np.abs(shell) - np.float32(0.8)) * below, -250.0)
    _blend(hu, canvas.cover(np.abs(shell - np.float32(thickness)) - np.float32(1.1)) * below, 60.0)


def _draw_mediastinum(
    canvas: _Canvas, a: _Anatomy, *, hu: FloatArray, level: float, depth: float, spine_y: float, inside: FloatArray
) -> FloatArray:
    """Heart, great vessels and the organs under the diaphragm. Returns the signed distance to all that is not lung."""
    blood, muscle = a.blood_hu, a.muscle_hu
    heart_size = _step(0.42, 0.66, level) * a.heart_scale
    hilum = _step(0.16, 0.34, level) * (1 - _step(0.55, 0.7, level))
    band = 25 + 9 * hilum - 3 * heart_size
    tissue = canvas.ellipse(2, -0.12 * depth, band, depth * 0.92)
    tissue = _smooth_min(tissue, canvas.ellipse(0, spine_y, a.vertebra_radius + 5, a.vertebra_radius + 6), k=9)
    aorta_y = spine_y - a.vertebra_radius * 0.55
    aorta_x = a.vertebra_radius + 7.0
    descending = canvas.circle(aorta_x, aorta_y, a.aorta_radius)
    tissue = _smooth_min(tissue, descending - np.float32(1.5), k=8)
    organs: list[tuple[FloatArray, float]] = [(descending, blood)]

    if hilum > 0.05:
        for side in (-1, 1):
            tissue = _smooth_min(tissue, canvas.ellipse(side * 33, 0.08 * depth, 15 * hilum + 4, 17 * hilum + 4), k=14)
    if heart_size > 0.05:
        heart = canvas.ellipse(20 * heart_size, -0.16 * depth, 63 * heart_size, 50 * heart_size, angle=a.heart_angle)
        tissue = _smooth_min(tissue, heart, k=12)
        organs.append((heart + np.float32(3.0), muscle - 5 if blood < 60 else 0.55 * blood + 20))
        turn = a.heart_angle
        for along, across, rx, ry in ((26, 14, 27, 15), (6, -17, 25, 16), (-28, 16, 17, 17), (-26, -16, 21, 17)):
            cx = 20 * heart_size + heart_size * (along * np.cos(turn) - across * np.sin(turn))
            cy = -0.16 * depth + heart_size * (along * np.sin(turn) + across * np.cos(turn))
            organs.append((canvas.ellipse(cx, cy, rx * heart_size, ry * heart_size, angle=turn), blood + 4))
    if level < 0.24:
        # The arch runs from the front right to the back left, drawn as one thick curved sausage.
        thick = a.aorta_radius * (0.75 + 0.35 * _step(0.0, 0.1, level))
        arch = canvas.capsule((-7, -0.36 * depth), (18, 0.0), thick)
        arch = _smooth_min(arch, canvas.capsule((18, 0.0), (aorta_x, aorta_y - 6), thick), k=8)
        organs.append((arch, blood))
        tissue = _smooth_min(tissue, arch - np.float32(2.0), k=8)
        organs.append((canvas.ellipse(-20, -0.3 * depth, 8, 9), blood))
    else:
        fade = 1 - _step(0.58, 0.68, level)
        if fade > 0.05:
            organs.append((canvas.circle(-7, -0.36 * depth, (a.aorta_radius + 2.5) * fade), blood))
            organs.append((canvas.ellipse(-26, -0.2 * depth, 8 * fade, 9.5 * fade), blood))
        if 0.3 < level < 0.6:
            trunk = _smooth_min(
                canvas.ellipse(21, -0.33 * depth, 13, 16, angle=0.5),
                canvas.capsule((20, -0.25 * depth), (34, 0.06 * depth), 9.5),
                k=8,
            )
            if level < 0.45:
                trunk = _smooth_min(trunk, canvas.capsule((16, -0.2 * depth), (-34, 0.02 * depth), 8.5), k=8)
            organs.append((trunk, blood))
            tissue = _smooth_min(tissue, trunk - np.float32(2.0), k=8)
    organs.append((canvas.ellipse(6, spine_y - a.vertebra_radius - 9, 7.5, 5), muscle - 8))

    liver = _step(0.78, 1.0, level)
    if liver > 0:
        dome = canvas.ellipse(-a.cavity_half_width * 0.5, 0.06 * depth, 76 * liver, 70 * liver, angle=0.15)
        tissue = _smooth_min(tissue, dome, k=6)
        organs.append((dome, 62 if blood < 60 else 105))
    stomach = _step(0.88, 1.05, level)
    if stomach > 0:
        dome = canvas.ellipse(a.cavity_half_width * 0.58, 0.22 * depth, 62 * stomach, 60 * stomach)
        tissue = _smooth_min(tissue, dome, k=6)
        organs.append((dome, 48 if blood < 60 else 95))
    for distance, value in organs:
        _blend(hu, canvas.cover(distance) * inside, value)
    return tissue


def _lung_changes(
    canvas: _Canvas, *, parenchyma: FloatArray, lung: FloatArray, cavity: FloatArray, half_depth: float
) -> FloatArray:
    """Things that are not tumours: emphysema, scars, fissures, dependent atelectasis, a small effusion."""
    rng = canvas.rng
    if rng.random() < 0.3:
        parenchyma = parenchyma - np.clip(canvas.cloud(7.0) - np.float32(rng.uniform(0.3, 1.2)), 0, 1.2) * 100
    for side in (-1, 1):
        if rng.random() < 0.7:
            # A fissure is a sheet two cells thick: a faint bent line, blurred where it runs oblique to the plane.
            bend, start = rng.uniform(-0.0025, 0.0025), rng.uniform(-0.35, 0.45) * half_depth
            across = (canvas.x * side - 65) * np.float32(rng.uniform(-0.5, 0.35)) + bend * (canvas.x * side - 65) ** 2
            line = np.exp(-(((canvas.y - start - across) / np.float32(rng.uniform(0.8, 2.2))) ** 2)) * (
                canvas.x * side > 0
            )
            parenchyma = parenchyma + np.float32(rng.uniform(40, 130)) * line
        if rng.random() < 0.18:
            cx, cy = side * rng.uniform(50, 95), rng.uniform(-0.2, 0.7) * half_depth
            turn, length = rng.uniform(0, np.pi), rng.uniform(12, 35)
            end = (cx + length * float(np.cos(turn)), cy + length * float(np.sin(turn)))
            scar = canvas.cover(canvas.capsule((cx, cy), end, rng.uniform(0.5, 1.3)))
            parenchyma = parenchyma + scar * np.float32(rng.uniform(300, 700))
        if rng.random() < 0.15:
            width = rng.uniform(3, 14)
            low = np.clip((canvas.y - np.float32(rng.uniform(0.4, 0.75) * half_depth)) * np.float32(0.06), 0, 1)
            crescent = (
                canvas.cover(-(cavity + np.float32(width) * low + np.float32(2.2))) * (canvas.x * side > 0) * (low > 0)
            )
            parenchyma = parenchyma + crescent * (np.float32(rng.choice([12.0, 35.0])) - parenchyma)
    return parenchyma


@lru_cache(maxsize=16)
def _grow_tree(seed: int) -> FloatArray:
    """The patient's vessels in space: rows x0, y0, z0, x1, y1, z1 (mm), radius (mm), generation.

    Each lung is filled with end points; a branch splits its end points into two halves along their longest extent
    and grows towards both middles, so that the tree reaches every part of the lung as the real one does. Radii
    shrink after Murray's law.
    """
    rng = np.random.default_rng([seed, 5])
    generations = 11
    ends = rng.uniform(-1, 1, (2, 2**generations, 3))
    ends[..., 0] = 74.0 + 62.0 * ends[..., 0]
    ends[..., 1] *= 96.0 * np.sqrt(np.clip(1 - ((ends[..., 0] - 55) / 100) ** 2, 0.05, 1))
    ends[..., 2] *= THORAX_HEIGHT_MM * 0.56
    ends[1, :, 0] *= -1
    groups = ends[:, None]
    nodes = np.array([[[34.0, 4.0, 0.0]], [[-34.0, 4.0, 0.0]]])
    radius = 6.2 * rng.uniform(0.85, 1.1)
    segments = []
    for generation in range(generations):
        extent = groups.max(axis=2) - groups.min(axis=2)
        preference = rng.uniform(0.7, 1.3, extent.shape)
        if generation < 4:
            # The first forks spread within the plane of the hilum, so that slices there show long vessels as in life.
            preference[..., 2] *= 0.4
        axis = np.argmax(extent * preference, axis=2)
        key = np.take_along_axis(groups, axis[..., None, None], axis=3)[..., 0]
        groups = np.take_along_axis(groups, np.argsort(key, axis=2)[..., None], axis=2)
        groups = groups.reshape(2, groups.shape[1] * 2, -1, 3)
        middle = groups.mean(axis=2)
        start = np.repeat(nodes, 2, axis=1)
        reach = rng.uniform(0.3, 0.55, (*middle.shape[:2], 1)) if generation < generations - 1 else 1.0
        nodes = start + (middle - start) * reach
        nodes += rng.normal(0, 0.06, nodes.shape) * np.linalg.norm(nodes - start, axis=2, keepdims=True)
        thickness = radius * 2 ** (-generation / 2.75) * rng.uniform(0.8, 1.15, middle.shape[:2])
        columns = [
            start.reshape(-1, 3),
            nodes.reshape(-1, 3),
            thickness.reshape(-1, 1),
            np.full((thickness.size, 1), generation),
        ]
        segments.append(np.concatenate(columns, axis=1))
    return np.concatenate(segments).astype(np.float32)


def _draw_tree(
    canvas: _Canvas,
    a: _Anatomy,
    *,
    hu: FloatArray,
    level: float,
    in_lung: FloatArray,
    cavity: FloatArray,
    seed: int,
    half_width: float,
) -> None:
    """Cut the tree with the slab and draw what lies in it: long vessels along the plane, round dots across it."""
    tree = _grow_tree(seed)
    plane = np.float32((level - 0.42) * THORAX_HEIGHT_MM)
    near, far = np.minimum(tree[:, 2], tree[:, 5]), np.maximum(tree[:, 2], tree[:, 5])
    reach = np.float32(SLAB_MM / 2) + tree[:, 6]
    tree = tree[(near - reach < plane) & (far + reach > plane)]
    cuts = 6
    t = np.linspace(0, 1, cuts + 1, dtype=np.float32)
    points = tree[:, None, 0:3] + t[None, :, None] * (tree[:, None, 3:6] - tree[:, None, 0:3])
    ends = np.concatenate([points[:, :-1], points[:, 1:]], axis=2).reshape(-1, 6)
    radius = np.repeat(tree[:, 6], cuts)
    generation = np.repeat(tree[:, 7], cuts)
    height = np.abs((ends[:, 2] + ends[:, 5]) / 2 - plane)
    weight = np.clip((np.float32(SLAB_MM / 2) + radius - height) / np.minimum(2 * radius, np.float32(SLAB_MM)), 0, 1)
    keep = weight > 0.05
    ends, radius, generation, weight = ends[keep], radius[keep], generation[keep], weight[keep]
    scale = np.float32(half_width / 130.0)
    flat = ends[:, [0, 1, 3, 4]] * scale
    if len(flat) == 0:
        return
    fade = in_lung * np.clip((-cavity - np.float32(4.0)) * np.float32(1 / 9.0), 0, 1)
    vessels = canvas.strokes(np.column_stack([flat, radius, weight]))
    _blend(hu, vessels * fade, a.blood_hu)
    # Bronchi run beside the arteries of the first forks: a wall around air.
    big = (generation > 0) & (generation < 5) & (radius > 1.4) & (weight > 0.6)
    if np.any(big):
        course = flat[big, 2:4] - flat[big, 0:2]
        normal = np.stack([-course[:, 1], course[:, 0]], 1) / (
            np.linalg.norm(course, axis=1, keepdims=True) + np.float32(1e-3)
        )
        offset = np.tile(normal * (radius[big, None] * 1.75), (1, 2))
        beside = flat[big] + offset
        wall = canvas.strokes(np.column_stack([beside, radius[big] * 0.7 + np.float32(0.8), weight[big]]))
        lumen = canvas.strokes(np.column_stack([beside, radius[big] * 0.7, weight[big]]))
        _blend(hu, wall * fade, -60.0)
        _blend(hu, lumen * fade, -960.0)


def _draw_airways(canvas: _Canvas, a: _Anatomy, *, hu: FloatArray, level: float, depth: float) -> None:
    """Trachea above the carina, two main bronchi below it."""
    r = a.trachea_radius
    lumen: list[FloatArray] = []
    if level < 0.3:
        lumen.append(canvas.ellipse(-1, 0.1 * depth, r, r * 0.95))
    elif level < 0.38:
        lumen.append(canvas.ellipse(-2, 0.13 * depth, r * 1.7, r * 0.8))
    elif level < 0.58:
        apart = (level - 0.38) / 0.2
        small = r * (0.78 - 0.2 * apart)
        for side in (-1, 1):
            inner, outer = 10 + 14 * apart, 24 + 16 * apart
            lumen.append(
                canvas.capsule((side * inner, 0.15 * depth), (side * outer, (0.17 + 0.08 * apart) * depth), small)
            )
    for distance in lumen:
        _blend(hu, canvas.cover(distance - np.float32(1.6)), 20.0)
        _blend(hu, canvas.cover(distance), -985.0)


def _draw_ribs(
    canvas: _Canvas,
    a: _Anatomy,
    *,
    hu: FloatArray,
    level: float,
    cavity: FloatArray,
    angle: FloatArray,
    radius: FloatArray,
    fine: FloatArray,
    half_depth: float,
) -> None:
    """Ribs cut obliquely along the chest wall, cartilage and sternum in front, shoulder blades at the back of upper
    slices.
    """
    around = np.float32(a.rib_count / np.pi)
    # The angle from the front (0) to the back (pi) on either side; each rib fills a part of its own sector.
    from_front = _angle_from_front(angle, absolute=True)
    side = np.sign(canvas.x)
    place = from_front * around + np.float32(a.rib_phase + level * 4) + np.float32(0.31) * (side > 0)
    sector = place - np.floor(place) - np.float32(0.5)
    along = sector / around * radius
    # Every rib is cut at its own length, and slants outwards because it runs down and forwards.
    own = np.sin(np.floor(place) * np.float32(12.9898) + side * np.float32(4.1)) * np.float32(0.5) + np.float32(0.5)
    bend = cavity - np.float32(6.2) + along * (np.float32(0.16) * own - np.float32(0.02))
    distance = np.hypot(np.maximum(np.abs(along) - np.float32(5.5) - 8 * own, 0), bend) - np.float32(4.0)
    allowed = (from_front > 0.5) & (from_front < 2.85)
    bone = canvas.cover(distance) * allowed
    is_cartilage = from_front < 0.8
    _blend(hu, bone, np.where(is_cartilage, np.float32(110.0), 780 + 60 * fine))
    _blend(
        hu,
        canvas.cover(distance + np.float32(1.7)) * allowed,
        np.where(is_cartilage, np.float32(90.0), 230 + 45 * fine),
    )

    top = -half_depth - 7.0
    width = 19 - 7 * _step(0.2, 0.6, level)
    sternum = canvas.ellipse(0, top, width, 6.5)
    _blend(hu, canvas.cover(sternum), 560 + 40 * fine)
    _blend(hu, canvas.cover(sternum + np.float32(1.9)), 170 + 40 * fine)

    blade = 1 - _step(0.3, 0.62, level)
    if blade > 0.05:
        for sign in (-1, 1):
            outer = (sign * (a.cavity_half_width + 8), 0.30 * half_depth)
            inner = (sign * (a.cavity_half_width * (0.62 + 0.2 * (1 - blade))), half_depth * 0.93 + 9)
            distance = canvas.capsule(outer, inner, 2.6)
            outside = cavity > 13
            _blend(hu, canvas.cover(distance) * outside, 720 + 60 * fine)
            _blend(hu, canvas.cover(distance + np.float32(1.7)) * outside, 330 + 40 * fine)
            ridge = canvas.capsule(outer, (outer[0] + sign * 9, outer[1] - 15 * blade), 3.6 * blade + 1)
            _blend(hu, canvas.cover(ridge) * outside, 650 + 60 * fine)


def _draw_spine(
    canvas: _Canvas, a: _Anatomy, *, hu: FloatArray, spine_y: float, level: float, fine: FloatArray
) -> None:
    """A thoracic vertebra: body with a cortex, canal with the cord, arch, transverse and spinous processes."""
    r = a.vertebra_radius
    canal_y = spine_y + r + 6.5
    arch = _smooth_min(
        canvas.capsule((-11, canal_y - 5), (-9, canal_y + 7), 4.2),
        canvas.capsule((11, canal_y - 5), (9, canal_y + 7), 4.2),
        k=3,
    )
    arch = _smooth_min(arch, canvas.capsule((-9, canal_y + 7), (0, canal_y + 13), 3.6), k=3)
    arch = _smooth_min(arch, canvas.capsule((9, canal_y + 7), (0, canal_y + 13), 3.6), k=3)
    spinous = canal_y + 22 + 8 * abs(float(np.sin(level * 23)))
    arch = _smooth_min(arch, canvas.capsule((0, canal_y + 13), (0, spinous), 2.8), k=3)
    for sign in (-1, 1):
        arch = _smooth_min(arch, canvas.capsule((sign * 12, canal_y + 2), (sign * 31, canal_y + 9), 4.0), k=3)
    _blend(hu, canvas.cover(arch), 640 + 60 * fine)
    _blend(hu, canvas.cover(arch + np.float32(1.8)), 260 + 50 * fine)
    body = canvas.ellipse(0, spine_y, r * 1.1, r * 0.95)
    _blend(hu, canvas.cover(body), 520 + 40 * fine)
    _blend(hu, canvas.cover(body + np.float32(1.8)), 190 + 55 * fine)
    canal = canvas.ellipse(0, canal_y, 8.6, 7.6)
    _blend(hu, canvas.cover(canal), 12.0)
    _blend(hu, canvas.cover(canvas.ellipse(0, canal_y, 5.2, 4.2)), 38.0)


# --- findings -------------------------------------------------------------------------------------------------------


def _plant(
    scene: _Scene, *, spec: NoduleSpec, rng: np.random.Generator, level: float, mask: NDArray[np.uint8]
) -> Nodule | None:
    """Draw one nodule into ``scene.hu`` and ``mask``; ``None`` where the plane misses it or the lung is too small
    here.
    """
    canvas = scene.canvas
    drawn_diameter = float(np.exp(rng.uniform(np.log(5.0), np.log(52.0))))
    drawn_kind: NoduleKind = NODULE_KINDS[int(rng.choice(len(NODULE_KINDS), p=[0.34, 0.14, 0.08, 0.28, 0.08, 0.08]))]
    drawn_place: Place = PLACES[int(rng.choice(len(PLACES), p=[0.55, 0.27, 0.18]))]
    drawn_side = int(rng.choice([-1, 1]))
    anchor, malignant_draw, relative = rng.random(), rng.random(), rng.random(4)
    whole = drawn_diameter if spec.diameter_mm is None else spec.diameter_mm
    kind, place = spec.kind or drawn_kind, spec.place or drawn_place
    side = {"right": -1, "left": 1, None: drawn_side}[spec.side]
    if spec.diameter_mm is None and kind in ("calcified", "ground_glass"):
        # Calcified granulomas and pure ground glass are seldom large.
        whole *= 0.55
    radius = whole / 2
    if spec.level is not None:
        off = abs(level - spec.level) * THORAX_HEIGHT_MM
        if off >= radius:
            return None
        radius = float(np.sqrt(radius**2 - off**2))
    aim = None
    if spec.level is not None:
        # A nodule that several slices cut stays where it is in the patient.
        cavity = scene.anatomy.cavity_half_width, scene.anatomy.cavity_half_depth
        aim = (side * (0.35 + 0.4 * anchor) * cavity[0], (relative[3] - 0.45) * cavity[1])
    centre = _find_place(scene, place=place, side=side, radius=whole / 2, anchor=anchor, aim=aim)
    if centre is None:
        return None
    cx, cy = centre
    dx, dy = canvas.x - np.float32(cx), canvas.y - np.float32(cy)
    angle, distance = np.arctan2(dy, dx), np.hypot(dx, dy)
    stretch = 1 + 0.28 * relative[1]
    turn = np.float32(relative[2] * np.pi)
    outline = np.float32(radius) * np.sqrt(
        np.cos(angle - turn) ** 2 * np.float32(stretch) + np.sin(angle - turn) ** 2 * np.float32(1 / stretch)
    )
    rough = {
        "solid": 0.05,
        "calcified": 0.03,
        "spiculated": 0.13,
        "part_solid": 0.1,
        "ground_glass": 0.1,
        "cavitary": 0.09,
    }[kind]
    for order in range(2, 8):
        outline += np.float32(radius * rough * rng.normal() / np.sqrt(order - 1)) * np.cos(
            order * angle + np.float32(rng.uniform(0, 2 * np.pi))
        )
    edge = distance - outline
    clear = canvas.cover(scene.lung_distance - np.float32(0.4 if place == "inner" else 1.2))
    cover = canvas.cover(edge) * clear
    body = cover >= 0.5
    area = int(np.count_nonzero(body))
    if area < 4:
        return None
    texture = canvas.cloud(2.5)
    soft = float(rng.uniform(15, 55)) + (35 if scene.anatomy.blood_hu > 100 else 0)
    hu = scene.hu
    if kind == "spiculated":
        count = int(rng.integers(8, 20))
        turns = rng.uniform(0, 2 * np.pi, count)
        reach = radius * rng.uniform(1.25, 1.9, count) + 1.5
        rays = np.column_stack(
            [
                cx + 0.7 * radius * np.cos(turns),
                cy + 0.7 * radius * np.sin(turns),
                cx + reach * np.cos(turns + rng.normal(0, 0.08, count)),
                cy + reach * np.sin(turns + rng.normal(0, 0.08, count)),
                rng.uniform(0.35, 0.9, count),
                rng.uniform(0.4, 0.8, count),
            ]
        )
        _blend(hu, canvas.strokes(rays.astype(np.float32)) * clear, soft - 60)
    if kind in ("ground_glass", "part_solid"):
        _blend(hu, cover, float(rng.uniform(-680, -480)) + 35 * texture)
    if kind == "part_solid":
        shift = 0.25 * radius * (relative[3] - 0.5)
        core = np.hypot(dx - np.float32(shift), dy + np.float32(shift)) - outline * np.float32(rng.uniform(0.35, 0.65))
        _blend(hu, canvas.cover(core) * clear, soft + 12 * texture)
    if kind in ("solid", "spiculated", "cavitary"):
        _blend(hu, cover, soft + 12 * texture)
    if kind == "calcified":
        _blend(hu, cover, float(rng.uniform(180, 520)) + 25 * texture)
    if kind == "cavitary":
        _blend(
            hu, canvas.cover(distance - outline * np.float32(rng.uniform(0.35, 0.62)) + np.float32(0.8)) * clear, -930.0
        )
    mask[body] = 255
    return Nodule(
        centre_px=((cx - canvas.left) / canvas.px - 0.5, (cy - canvas.top) / canvas.px - 0.5),
        diameter_mm=2 * radius,
        kind=kind,
        place=place,
        is_malignant=bool(malignant_draw < MALIGNANT_SHARE[kind] * min(1.0, 0.4 + whole / 20)),
        area_px=area,
    )


def _find_place(
    scene: _Scene, *, place: Place, side: int, radius: float, anchor: float, aim: tuple[float, float] | None
) -> tuple[float, float] | None:
    """A centre (mm) where a nodule of this radius lies free in the lung, against the chest wall, or against the
    mediastinum.
    """
    canvas = scene.canvas
    lung, cavity = scene.lung_distance, scene.cavity_distance
    on_side = canvas.x * side > 8
    wall_depth = np.abs(cavity + np.float32(2.2) - lung)
    if place == "inner":
        allowed = on_side & (lung < -np.float32(radius + 3.0))
    elif place == "juxtapleural":
        allowed = on_side & (np.abs(lung + np.float32(0.55 * radius)) < 1.0 + 0.5 * canvas.px) & (wall_depth < 3.0)
    else:
        allowed = (
            on_side
            & (np.abs(lung + np.float32(0.5 * radius)) < 1.0 + 0.5 * canvas.px)
            & (cavity < -np.float32(radius + 8.0))
        )
    spots = np.flatnonzero(allowed)
    if len(spots) == 0:
        # The lung is narrow here: the deepest point is the best there is, if at least a part of the nodule shows.
        deep = np.where(on_side, lung, np.float32(np.inf))
        spot = int(np.argmin(deep))
        if deep.flat[spot] > -3.0:
            return None
    elif aim is None:
        spot = int(spots[int(anchor * len(spots))])
    else:
        rows, columns = np.divmod(spots, canvas.size)
        spot = int(spots[np.argmin((canvas.x[0, columns] - aim[0]) ** 2 + (canvas.y[rows, 0] - aim[1]) ** 2)])
    row, column = divmod(spot, canvas.size)
    return float(canvas.x[0, column]), float(canvas.y[row, 0])


# --- acquisition ----------------------------------------------------------------------------------------------------


def _acquire(scene: _Scene, *, noise_hu: float, is_round: bool, rng: np.random.Generator) -> NDArray[np.int16]:
    """What the scanner makes of the scene: blur of the reconstruction kernel, correlated noise, the scanner's range.

    The noise has the ramp-shaped power of filtered back-projection under a soft cut-off (Riederer 1978), not white.
    """
    canvas = scene.canvas
    blur_mm = rng.uniform(0.35, 0.75)
    hu = ndimage.gaussian_filter(scene.hu, blur_mm / canvas.px, truncate=2.5)
    frequency = _frequencies(canvas.size) * np.float32(1 / canvas.px)
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
