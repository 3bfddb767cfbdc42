"""Small sets in the public layouts, drawn here."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def save_picture(path: Path, *, seed: int, mode: str = "RGBA", size: tuple[int, int] = (70, 64)) -> None:
    """Write noise (width, height) that depends on `seed` alone, as PNG or JPEG by its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, size[::-1]).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def class_set(tmp_path) -> Path:
    """A folder `source` with a class set of seven pictures: a copy across splits, a conflict, a misnamed JPEG."""
    data = tmp_path / "source/chest-ctscan-images/Data"
    save_picture(data / "train/normal/a.png", seed=1)
    save_picture(data / "train/large.cell.carcinoma_left.hilum_T2/l4.png", seed=2)
    save_picture(data / "train/squamous.cell.carcinoma_left.hilum_T1/sq2.png", seed=2)
    save_picture(data / "valid/adenocarcinoma_left/b.png", seed=3, mode="L")
    save_picture(data / "test/normal/copy.png", seed=1)
    save_picture(data / "test/adenocarcinoma/c.png", seed=4, mode="RGB")
    save_picture(data / "test/adenocarcinoma/d.jpg", seed=5, mode="L")
    (data / "test/adenocarcinoma/d.jpg").rename(data / "test/adenocarcinoma/d.png")
    return tmp_path / "source"


@pytest.fixture
def all_sets(class_set) -> Path:
    """`class_set` with four nodule crops of two patients and three whole slices beside it."""
    nodules = class_set / "lidc-nodules"
    lines = ["image,mask,patient,nodule,readers,area_px,malignancy"]
    for number in range(4):
        name = f"P{number % 2}/nodule0_slice{number}"
        save_picture(nodules / f"{name}.png", seed=10 + number, mode="L", size=(64, 64))
        save_picture(nodules / f"{name}_mask.png", seed=20 + number, mode="L", size=(64, 64))
        lines.append(f"{name}.png,{name}_mask.png,P{number % 2},0,4,31,{number or ''}")
    (nodules / "index.csv").write_text("\n".join(lines) + "\n")
    for number in range(3):
        path = class_set / f"msd-lung-slices/s{number % 2}/slice{number}.png"
        save_picture(path, seed=30 + number, mode="L", size=(96, 96))
        Image.fromarray(np.zeros((96, 96), np.uint8)).save(path.with_name(f"slice{number}_mask.png"))
    return class_set


def zip_folder(folder: Path, *, target: Path) -> Path:
    """Pack everything below `folder`."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.write(path, path.relative_to(folder).as_posix())
    return target


@pytest.fixture
def class_archive(class_set, tmp_path) -> Path:
    """The class set as the public archive is laid out: `Data/` at its top."""
    archive = zip_folder(class_set / "chest-ctscan-images", target=tmp_path / "set.zip")
    shutil.rmtree(class_set)
    return archive
