"""``manage.py make_fixtures``: draw the sample slices of ``fixtures/`` again, byte for byte."""

import io
from argparse import ArgumentParser
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError
from PIL import Image

from ml.phantom import NoduleSpec, Phantom, PhantomSpec, label_synthetic, make_phantom

ROOT: Final = Path(__file__).resolve().parents[3]
PROVENANCE_NAME: Final = "PROVENANCE.md"


@dataclass(frozen=True)
class Recipe:
    """One sample slice: file name, seed of the patient, what to draw, and what it shows in words."""

    name: str
    seed: int
    spec: PhantomSpec
    shows: str


_MASS = NoduleSpec(diameter_mm=34, kind="spiculated", place="inner", side="right", level=0.46)
_SERIES = PhantomSpec(size=320, window="wide", nodules=(_MASS,), has_contrast_medium=True, has_distractors=False)
_FOLLOW = PhantomSpec(size=320, window="lung", nodules=(), noise_hu=16.0, has_distractors=False)
_SINGLE = PhantomSpec(size=320, has_distractors=False)

RECIPES: Final[tuple[Recipe, ...]] = (
    Recipe("series-a-1.png", 4101, replace(_SERIES, level=0.36), "Series A, above the mass"),
    Recipe("series-a-2.png", 4101, replace(_SERIES, level=0.42), "Series A, upper part of a spiculated mass"),
    Recipe("series-a-3.png", 4101, replace(_SERIES, level=0.46), "Series A, middle of the spiculated mass"),
    Recipe("series-a-4.png", 4101, replace(_SERIES, level=0.51), "Series A, lower part of the mass"),
    Recipe("series-b-1.jpg", 4202, replace(_FOLLOW, level=0.2), "Series B, lung window, no tumour"),
    Recipe("series-b-2.jpg", 4202, replace(_FOLLOW, level=0.5), "Series B, lung window, no tumour"),
    Recipe("series-b-3.jpg", 4202, replace(_FOLLOW, level=0.75), "Series B, lung window, no tumour"),
    Recipe(
        "solid-nodule.png",
        4303,
        replace(_SINGLE, level=0.6, window="wide", nodules=(NoduleSpec(18, "solid", "inner", "left"),)),
        "One smooth solid nodule",
    ),
    Recipe(
        "part-solid-nodule.png",
        4404,
        replace(_SINGLE, level=0.3, window="lung", nodules=(NoduleSpec(24, "part_solid", "inner", "right"),)),
        "One part-solid nodule in a lung window",
    ),
    Recipe(
        "pleural-nodule.jpg",
        4505,
        replace(_SINGLE, level=0.55, window="wide", nodules=(NoduleSpec(26, "solid", "juxtapleural", "left"),)),
        "One nodule on the pleura",
    ),
    Recipe(
        "central-mass-soft-tissue.png",
        4606,
        replace(_SINGLE, level=0.45, window="soft_tissue", nodules=(NoduleSpec(46, "solid", "central", "left"),)),
        "One central mass in a narrow soft-tissue window",
    ),
    Recipe(
        "two-nodules.png",
        4707,
        replace(
            _SINGLE,
            level=0.65,
            window="wide",
            nodules=(NoduleSpec(22, "spiculated", "inner", "right"), NoduleSpec(12, "calcified", "inner", "left")),
        ),
        "A spiculated and a small calcified nodule",
    ),
)


class Command(BaseCommand):
    help = "Draw the synthetic sample slices of fixtures/ and their provenance again."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--out", type=Path, default=ROOT / "fixtures", metavar="DIR", help="default: fixtures/")

    def handle(self, *args: Any, **options: Any) -> None:
        folder: Path = options["out"]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            rows = []
            for recipe in RECIPES:
                phantom = make_phantom(recipe.seed, spec=recipe.spec)
                content = encode(phantom, name=recipe.name)
                (folder / recipe.name).write_bytes(content)
                rows.append(describe(recipe, phantom=phantom))
                self.stdout.write(f"{recipe.name}  {len(content) / 1024:.0f} KB  {recipe.shows}")
            (folder / PROVENANCE_NAME).write_text(provenance(rows), encoding="utf-8")
        except OSError as error:
            raise CommandError(
                f"The folder {folder} cannot be written: {error.strerror}. Please name another one with --out."
            ) from error


def encode(phantom: Phantom, *, name: str) -> bytes:
    """The labelled picture as PNG or JPEG, by its name."""
    stream = io.BytesIO()
    picture = Image.fromarray(label_synthetic(phantom.pixels))
    if name.endswith(".jpg"):
        picture.save(stream, format="JPEG", quality=88)
    else:
        picture.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def describe(recipe: Recipe, *, phantom: Phantom) -> str:
    """A row of the provenance table."""
    nodules = "; ".join(
        f"{nodule.kind.replace('_', '-')} {nodule.diameter_mm:.0f} mm at "
        f"({nodule.centre_px[0]:.0f}, {nodule.centre_px[1]:.0f}), {nodule.area_px} px"
        for nodule in phantom.nodules
    )
    spacing = phantom.pixel_spacing_mm[0]
    return (
        f"| `{recipe.name}` | {recipe.seed} | {phantom.level:.2f} | {phantom.window.name.replace('_', '-')} | "
        f"{spacing:.3f} | {nodules or 'none'} | {recipe.shows} |"
    )


def provenance(rows: list[str]) -> str:
    """The text that stands beside the slices: what they are, how to make them again, under which licence."""
    table = "\n".join(rows)
    return f"""# Where these pictures come from

Every picture in this folder is drawn by `ml/phantom.py`: no patient, no scanner, no part of any data set. Each says
SYNTHETIC in its lower left corner. They serve the demo and the tests, and say nothing about how well the model reads
real slices.

Made by `python manage.py make_fixtures`, which draws the same pixels again from the same seeds. One seed is one
(invented) patient; rows of one seed are slices of one series. The level runs from 0 (aortic arch) to 1 (liver dome).

Licence: that of this repository.

| file | seed | level | window | mm a pixel | planted nodules (x, y of the centre) | shows |
|---|---|---|---|---|---|---|
{table}
"""
