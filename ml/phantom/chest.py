"""One invented patient's chest: body, chest wall, lungs, mediastinum, bones, as HU before noise."""

from dataclasses import dataclass, replace

import numpy as np

from ml.phantom.canvas import Canvas, FloatArray, blend, smooth_min, smooth_step
from ml.phantom.vessels import draw_tree


@dataclass(frozen=True)
class Anatomy:
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


@dataclass(frozen=True)
class Scene:
    """The drawn chest before noise: ``hu`` is changed in place by what is planted later."""

    canvas: Canvas
    anatomy: Anatomy
    hu: FloatArray
    cavity_distance: FloatArray
    lung_distance: FloatArray


def _angle_from_front(angle: FloatArray, *, absolute: bool) -> FloatArray:
    """Angle around the chest measured from the breastbone: -pi..pi, or 0..pi without its side."""
    turned = angle + np.float32(np.pi / 2)
    turned = np.where(turned > np.float32(np.pi), turned - np.float32(2 * np.pi), turned)
    return np.abs(turned) if absolute else turned


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    half_width = rng.uniform(116, 142)
    return Anatomy(
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


def draw_chest(canvas: Canvas, *, anatomy: Anatomy, level: float, seed: int, has_distractors: bool) -> Scene:
    a = anatomy
    shrink = 0.8 + 0.2 * smooth_step(0.0, 0.42, level) - 0.02 * smooth_step(0.85, 1.0, level)
    half_width, half_depth = (
        a.cavity_half_width * shrink,
        a.cavity_half_depth * (0.86 + 0.14 * smooth_step(0.0, 0.5, level)),
    )
    # Shoulder muscles and blades thicken the wall of the upper slices.
    a = replace(a, wall=a.wall + 9 * (1 - smooth_step(0.15, 0.6, level)))
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
    blend(hu, cover_body, -102 + 5 * soft)
    blend(hu, cover_body * canvas.cover(-body - np.float32(1.6)), 15.0)
    # Muscle lies under fat that is thicker at the flanks and the front, and is parted by thin curved sheets of fat.
    depth = np.float32(a.fat) * (1 + np.float32(0.25) * np.cos(2 * angle)) + np.float32(1.2) * soft
    sheets = np.clip(1.0 - np.abs(soft) * 5, 0, 1) * np.float32(0.75) * (cavity > 12)
    muscle = canvas.cover(np.maximum(body + depth, cavity - np.float32(a.wall + 14)))
    blend(hu, muscle * (1 - sheets), a.muscle_hu + 4 * fine)
    blend(hu, canvas.cover(cavity) * cover_body, -85 + 8 * soft)

    spine_y = half_depth - 2.2 * a.vertebra_radius
    mediastinum = _draw_mediastinum(
        canvas, a, hu=hu, level=level, depth=half_depth, spine_y=spine_y, inside=canvas.cover(cavity)
    )
    rind = cavity + np.float32(2.2)
    # Rounded intersection of "inside the cavity" and "outside the mediastinum".
    lung = -smooth_min(-rind, mediastinum, k=9.0)
    in_lung = canvas.cover(lung)
    dependent = np.clip((y - np.float32(0.15 * half_depth)) * np.float32(1 / half_depth), 0, 1) ** 2
    parenchyma = a.lung_hu + 12 * soft + 14 * fine + np.float32(a.dependent_hu) * dependent
    if has_distractors:
        parenchyma = _lung_changes(canvas, parenchyma=parenchyma, lung=lung, cavity=cavity, half_depth=half_depth)
    blend(hu, in_lung, parenchyma)
    draw_tree(
        canvas,
        blood_hu=a.blood_hu,
        hu=hu,
        level=level,
        in_lung=in_lung,
        cavity=cavity,
        seed=seed,
        half_width=half_width,
    )
    _draw_airways(canvas, a, hu=hu, level=level, depth=half_depth)
    _draw_ribs(
        canvas, a, hu=hu, level=level, cavity=cavity, angle=angle, radius=radius, fine=fine, half_depth=half_depth
    )
    _draw_spine(canvas, a, hu=hu, spine_y=spine_y, level=level, fine=fine)
    return Scene(canvas=canvas, anatomy=a, hu=hu, cavity_distance=cavity, lung_distance=lung)


def _body_distance(a: Anatomy, *, radius: FloatArray, angle: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
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


def _draw_table(canvas: Canvas, a: Anatomy, *, hu: FloatArray) -> None:
    """The couch: two thin bright shells with foam between, concave upwards."""
    bottom = a.cavity_half_depth + a.wall * 0.8 + a.fat * 0.8 + 9 + a.table_gap
    shell = np.hypot(canvas.x, canvas.y - np.float32(bottom - a.table_radius)) - np.float32(a.table_radius)
    below = canvas.y > np.float32(bottom - 55)
    thickness = 26.0
    blend(hu, canvas.cover(np.abs(shell - np.float32(thickness / 2)) - np.float32(thickness / 2)) * below, -930.0)
    blend(hu, canvas.cover(np.abs(shell) - np.float32(0.8)) * below, -250.0)
    blend(hu, canvas.cover(np.abs(shell - np.float32(thickness)) - np.float32(1.1)) * below, 60.0)


def _draw_mediastinum(
    canvas: Canvas, a: Anatomy, *, hu: FloatArray, level: float, depth: float, spine_y: float, inside: FloatArray
) -> FloatArray:
    """Heart, great vessels and the organs under the diaphragm. Returns the signed distance to all that is not lung."""
    blood, muscle = a.blood_hu, a.muscle_hu
    heart_size = smooth_step(0.42, 0.66, level) * a.heart_scale
    hilum = smooth_step(0.16, 0.34, level) * (1 - smooth_step(0.55, 0.7, level))
    band = 25 + 9 * hilum - 3 * heart_size
    tissue = canvas.ellipse(2, -0.12 * depth, band, depth * 0.92)
    tissue = smooth_min(tissue, canvas.ellipse(0, spine_y, a.vertebra_radius + 5, a.vertebra_radius + 6), k=9)
    aorta_y = spine_y - a.vertebra_radius * 0.55
    aorta_x = a.vertebra_radius + 7.0
    descending = canvas.circle(aorta_x, aorta_y, a.aorta_radius)
    tissue = smooth_min(tissue, descending - np.float32(1.5), k=8)
    organs: list[tuple[FloatArray, float]] = [(descending, blood)]

    if hilum > 0.05:
        for side in (-1, 1):
            tissue = smooth_min(tissue, canvas.ellipse(side * 33, 0.08 * depth, 15 * hilum + 4, 17 * hilum + 4), k=14)
    if heart_size > 0.05:
        heart = canvas.ellipse(20 * heart_size, -0.16 * depth, 63 * heart_size, 50 * heart_size, angle=a.heart_angle)
        tissue = smooth_min(tissue, heart, k=12)
        organs.append((heart + np.float32(3.0), muscle - 5 if blood < 60 else 0.55 * blood + 20))
        turn = a.heart_angle
        for along, across, rx, ry in ((26, 14, 27, 15), (6, -17, 25, 16), (-28, 16, 17, 17), (-26, -16, 21, 17)):
            cx = 20 * heart_size + heart_size * (along * np.cos(turn) - across * np.sin(turn))
            cy = -0.16 * depth + heart_size * (along * np.sin(turn) + across * np.cos(turn))
            organs.append((canvas.ellipse(cx, cy, rx * heart_size, ry * heart_size, angle=turn), blood + 4))
    if level < 0.24:
        # The arch runs from the front right to the back left, drawn as one thick curved sausage.
        thick = a.aorta_radius * (0.75 + 0.35 * smooth_step(0.0, 0.1, level))
        arch = canvas.capsule((-7, -0.36 * depth), (18, 0.0), thick)
        arch = smooth_min(arch, canvas.capsule((18, 0.0), (aorta_x, aorta_y - 6), thick), k=8)
        organs.append((arch, blood))
        tissue = smooth_min(tissue, arch - np.float32(2.0), k=8)
        organs.append((canvas.ellipse(-20, -0.3 * depth, 8, 9), blood))
    else:
        fade = 1 - smooth_step(0.58, 0.68, level)
        if fade > 0.05:
            organs.append((canvas.circle(-7, -0.36 * depth, (a.aorta_radius + 2.5) * fade), blood))
            organs.append((canvas.ellipse(-26, -0.2 * depth, 8 * fade, 9.5 * fade), blood))
        if 0.3 < level < 0.6:
            trunk = smooth_min(
                canvas.ellipse(21, -0.33 * depth, 13, 16, angle=0.5),
                canvas.capsule((20, -0.25 * depth), (34, 0.06 * depth), 9.5),
                k=8,
            )
            if level < 0.45:
                trunk = smooth_min(trunk, canvas.capsule((16, -0.2 * depth), (-34, 0.02 * depth), 8.5), k=8)
            organs.append((trunk, blood))
            tissue = smooth_min(tissue, trunk - np.float32(2.0), k=8)
    organs.append((canvas.ellipse(6, spine_y - a.vertebra_radius - 9, 7.5, 5), muscle - 8))

    liver = smooth_step(0.78, 1.0, level)
    if liver > 0:
        dome = canvas.ellipse(-a.cavity_half_width * 0.5, 0.06 * depth, 76 * liver, 70 * liver, angle=0.15)
        tissue = smooth_min(tissue, dome, k=6)
        organs.append((dome, 62 if blood < 60 else 105))
    stomach = smooth_step(0.88, 1.05, level)
    if stomach > 0:
        dome = canvas.ellipse(a.cavity_half_width * 0.58, 0.22 * depth, 62 * stomach, 60 * stomach)
        tissue = smooth_min(tissue, dome, k=6)
        organs.append((dome, 48 if blood < 60 else 95))
    for distance, value in organs:
        blend(hu, canvas.cover(distance) * inside, value)
    return tissue


def _lung_changes(
    canvas: Canvas, *, parenchyma: FloatArray, lung: FloatArray, cavity: FloatArray, half_depth: float
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


def _draw_airways(canvas: Canvas, a: Anatomy, *, hu: FloatArray, level: float, depth: float) -> None:
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
        blend(hu, canvas.cover(distance - np.float32(1.6)), 20.0)
        blend(hu, canvas.cover(distance), -985.0)


def _draw_ribs(
    canvas: Canvas,
    a: Anatomy,
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
    blend(hu, bone, np.where(is_cartilage, np.float32(110.0), 780 + 60 * fine))
    blend(
        hu,
        canvas.cover(distance + np.float32(1.7)) * allowed,
        np.where(is_cartilage, np.float32(90.0), 230 + 45 * fine),
    )

    top = -half_depth - 7.0
    width = 19 - 7 * smooth_step(0.2, 0.6, level)
    sternum = canvas.ellipse(0, top, width, 6.5)
    blend(hu, canvas.cover(sternum), 560 + 40 * fine)
    blend(hu, canvas.cover(sternum + np.float32(1.9)), 170 + 40 * fine)

    blade = 1 - smooth_step(0.3, 0.62, level)
    if blade > 0.05:
        for sign in (-1, 1):
            outer = (sign * (a.cavity_half_width + 8), 0.30 * half_depth)
            inner = (sign * (a.cavity_half_width * (0.62 + 0.2 * (1 - blade))), half_depth * 0.93 + 9)
            distance = canvas.capsule(outer, inner, 2.6)
            outside = cavity > 13
            blend(hu, canvas.cover(distance) * outside, 720 + 60 * fine)
            blend(hu, canvas.cover(distance + np.float32(1.7)) * outside, 330 + 40 * fine)
            ridge = canvas.capsule(outer, (outer[0] + sign * 9, outer[1] - 15 * blade), 3.6 * blade + 1)
            blend(hu, canvas.cover(ridge) * outside, 650 + 60 * fine)


def _draw_spine(canvas: Canvas, a: Anatomy, *, hu: FloatArray, spine_y: float, level: float, fine: FloatArray) -> None:
    """A thoracic vertebra: body with a cortex, canal with the cord, arch, transverse and spinous processes."""
    r = a.vertebra_radius
    canal_y = spine_y + r + 6.5
    arch = smooth_min(
        canvas.capsule((-11, canal_y - 5), (-9, canal_y + 7), 4.2),
        canvas.capsule((11, canal_y - 5), (9, canal_y + 7), 4.2),
        k=3,
    )
    arch = smooth_min(arch, canvas.capsule((-9, canal_y + 7), (0, canal_y + 13), 3.6), k=3)
    arch = smooth_min(arch, canvas.capsule((9, canal_y + 7), (0, canal_y + 13), 3.6), k=3)
    spinous = canal_y + 22 + 8 * abs(float(np.sin(level * 23)))
    arch = smooth_min(arch, canvas.capsule((0, canal_y + 13), (0, spinous), 2.8), k=3)
    for sign in (-1, 1):
        arch = smooth_min(arch, canvas.capsule((sign * 12, canal_y + 2), (sign * 31, canal_y + 9), 4.0), k=3)
    blend(hu, canvas.cover(arch), 640 + 60 * fine)
    blend(hu, canvas.cover(arch + np.float32(1.8)), 260 + 50 * fine)
    body = canvas.ellipse(0, spine_y, r * 1.1, r * 0.95)
    blend(hu, canvas.cover(body), 520 + 40 * fine)
    blend(hu, canvas.cover(body + np.float32(1.8)), 190 + 55 * fine)
    canal = canvas.ellipse(0, canal_y, 8.6, 7.6)
    blend(hu, canvas.cover(canal), 12.0)
    blend(hu, canvas.cover(canvas.ellipse(0, canal_y, 5.2, 4.2)), 38.0)
