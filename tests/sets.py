"""The three public layouts, drawn by the phantom: what training and the pipeline are tried on."""

from pathlib import Path

import numpy as np
from PIL import Image

from ml.phantom import NoduleSpec, PhantomSpec, make_phantom

CLASS_FOLDERS = ("adenocarcinoma", "large.cell.carcinoma", "normal", "squamous.cell.carcinoma")
NODULE = NoduleSpec(24, "solid", "inner", "left")


def save_pixels(path: Path, pixels: np.ndarray) -> None:
    """Write uint8 (H, W) and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)


def draw_all_layouts(
    root: Path, *, nodule_patients: int = 24, pictures_a_class: int = 3, has_groups: bool = True
) -> None:
    """Draw `lidc-nodules`, `msd-lung-slices` (three patients of two slices) and `chest-ctscan-images`."""
    index = ["image,mask,patient,nodule,readers,area_px,malignancy"]
    for number in range(nodule_patients):
        phantom = make_phantom(number, spec=PhantomSpec(level=0.5, window="wide", nodules=(NODULE,)))
        x, y = (int(np.clip(value, 64, 192)) for value in phantom.nodules[0].centre_px)
        crop = np.s_[y - 64 : y + 64, x - 64 : x + 64]
        name = f"P{number:02d}/nodule0_slice1"
        save_pixels(root / f"lidc-nodules/{name}.png", phantom.pixels[crop])
        save_pixels(root / f"lidc-nodules/{name}_mask.png", phantom.mask[crop])
        area = int((phantom.mask[crop] > 0).sum())
        index.append(f"{name}.png,{name}_mask.png,P{number:02d},0,4,{area},{1 + number % 5}")
        if number < 6:
            save_pixels(root / f"msd-lung-slices/subject-{number % 3}/slice{number}.png", phantom.pixels)
            save_pixels(root / f"msd-lung-slices/subject-{number % 3}/slice{number}_mask.png", phantom.mask)
    (root / "lidc-nodules/index.csv").write_text("\n".join(index) + "\n")
    groups = ["path,split,class,sha1,width,height,same_slice_id,patient_group_id"]
    for place, (split, folder) in enumerate((s, f) for s in ("train", "valid", "test") for f in CLASS_FOLDERS):
        for number in range(pictures_a_class):
            seed = 1000 + 10 * place + number
            pixels = make_phantom(seed, spec=PhantomSpec(nodules=() if folder == "normal" else (NODULE,))).pixels
            relative = f"{split}/{folder}/{number}.png"
            save_pixels(root / "chest-ctscan-images/Data" / relative, pixels)
            groups.append(f"{relative},{split},{folder},sha-{seed},256,256,{seed},{seed}")
    if has_groups:
        (root / "chest-ctscan-images/groups.csv").write_text("\n".join(groups) + "\n")
