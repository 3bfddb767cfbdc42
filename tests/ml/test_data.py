"""Readers of the three layouts, and splits that no patient crosses."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ml import data
from ml.data import ChestImage, ManifestEntry, NoduleSlice
from ml.errors import TrainingDataError

REAL = Path(os.environ.get("IRA_DATA_DIR") or Path(__file__).resolve().parents[3] / "shared" / "data")
needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason=f"the real CT data is not at {REAL}")


def save(path: Path, *, grey: int = 50, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((70, 80), grey, np.uint8)).convert(mode).save(path)


def chest_image(*, sha1: str, label: int, same_slice_id: str | None = None, split: str = "train") -> ChestImage:
    return ChestImage(
        image=Path(sha1),
        relative_path=sha1,
        split=split,
        label=label,
        sha1=sha1,
        same_slice_id=same_slice_id,
        patient_group_id=None,
    )


class TestClassNames:
    @pytest.mark.parametrize(
        ("folder", "class_"),
        [
            ("adenocarcinoma", "adenocarcinoma"),
            ("adenocarcinoma_left.lower.lobe_T2_N0_M0_Ib", "adenocarcinoma"),
            ("large.cell.carcinoma_left.hilum_T2_N2_M0_IIIa", "large_cell_carcinoma"),
            ("Large Cell Carcinoma", "large_cell_carcinoma"),
            ("squamous.cell.carcinoma_left.hilum_T1_N2_M0_IIIa", "squamous_cell_carcinoma"),
            ("normal", "normal"),
        ],
    )
    def test_folders_are_mapped_by_name(self, folder, class_):
        assert data.CLASSES[data.class_of_folder(folder)] == class_

    def test_classes_are_in_alphabetical_order(self):
        assert list(data.CLASSES) == sorted(data.CLASSES)

    @pytest.mark.parametrize("folder", ["", "benign", "cell.carcinoma", ".git"])
    def test_an_unknown_folder_is_named(self, folder):
        with pytest.raises(TrainingDataError, match="Rename it"):
            data.class_of_folder(folder)


class TestChestLayout:
    def test_both_spellings_of_class_folders_give_the_same_label(self, tmp_path):
        save(tmp_path / "Data/train/normal/a.png", grey=1)
        save(tmp_path / "Data/train/squamous.cell.carcinoma_left.hilum_T1/b.PNG", grey=2, mode="RGBA")
        save(tmp_path / "Data/test/squamous.cell.carcinoma/c.jpg", grey=3)
        (tmp_path / "Data/test/squamous.cell.carcinoma/notes.txt").write_text("no picture")
        images = data.read_chest_ctscan(tmp_path)
        assert [(one.split, data.CLASSES[one.label]) for one in images] == [
            ("train", "normal"),
            ("train", "squamous_cell_carcinoma"),
            ("test", "squamous_cell_carcinoma"),
        ]
        assert {one.patient_group_id for one in images} == {None}

    def test_groups_are_read_where_present(self, tmp_path):
        save(tmp_path / "Data/train/normal/a.png")
        (tmp_path / "groups.csv").write_text(
            "path,split,class,sha1,width,height,same_slice_id,patient_group_id\ntrain/normal/a.png,train,normal,x,8,8,7,9\n"
        )
        (image,) = data.read_chest_ctscan(tmp_path)
        assert (image.sha1, image.same_slice_id, image.patient_group_id) == ("x", "7", "9")

    def test_an_empty_set_says_so(self, tmp_path):
        (tmp_path / "train/normal").mkdir(parents=True)
        with pytest.raises(TrainingDataError, match="No PNG or JPEG"):
            data.read_chest_ctscan(tmp_path)


class TestConflicts:
    def test_copies_are_kept_once(self):
        images = [chest_image(sha1="a", label=0), chest_image(sha1="a", label=0), chest_image(sha1="b", label=0)]
        assert [one.sha1 for one in data.without_conflicts(images)] == ["a", "b"]

    def test_the_same_bytes_under_two_classes_teach_nothing(self):
        images = [chest_image(sha1="a", label=0), chest_image(sha1="a", label=1), chest_image(sha1="b", label=1)]
        assert [one.sha1 for one in data.without_conflicts(images)] == ["b"]

    def test_the_same_slice_under_two_classes_teaches_nothing(self):
        images = [
            chest_image(sha1="a", label=0, same_slice_id="5"),
            chest_image(sha1="b", label=1, same_slice_id="5"),
            chest_image(sha1="c", label=1, same_slice_id="6"),
        ]
        assert [one.sha1 for one in data.without_conflicts(images)] == ["c"]


class TestNodules:
    def index(self, folder: Path, *rows: str) -> Path:
        header = "image,mask,patient,nodule,readers,area_px,malignancy\n"
        (folder / "index.csv").write_text(header + "".join(f"{row}\n" for row in rows))
        return folder

    def test_rows_become_slices(self, tmp_path):
        root = self.index(tmp_path, "p/a.png,p/a_mask.png,p,0,4,70,5", "p/b.png,p/b_mask.png,p,1,1,9,")
        first, second = data.read_lidc_nodules(root)
        assert (first.patient, first.area_px, first.malignancy, first.is_malignant) == ("p", 70, 5, True)
        assert (second.malignancy, second.is_malignant) == (None, None)
        assert first.nodule != second.nodule

    @pytest.mark.parametrize(("rating", "is_malignant"), [(1, False), (2, False), (3, None), (4, True), (5, True)])
    def test_three_is_neither_benign_nor_malignant(self, rating, is_malignant):
        one = NoduleSlice(Path("a"), Path("b"), "p", "p/0", 9, rating)
        assert one.is_malignant is is_malignant

    @pytest.mark.parametrize("row", ["p/a.png,p/a_mask.png,p,0,4,many,5", "p/a.png,p/a_mask.png,p,0,4,70,bad"])
    def test_a_bad_line_is_named(self, tmp_path, row):
        with pytest.raises(TrainingDataError, match="Line 2"):
            data.read_lidc_nodules(self.index(tmp_path, row))

    def test_an_empty_index_says_so(self, tmp_path):
        with pytest.raises(TrainingDataError, match="no slices"):
            data.read_lidc_nodules(self.index(tmp_path))


class TestWholeSlices:
    def test_pictures_without_mask_are_left_out_and_folders_are_patients(self, tmp_path):
        for name in ("one/a.png", "one/a_mask.png", "two/deep/b.jpg", "two/deep/b_mask.png", "two/lonely.png"):
            save(tmp_path / name)
        assert [(one.image.name, one.patient) for one in data.read_whole_slices(tmp_path)] == [
            ("a.png", "one"),
            ("b.jpg", "two/deep"),
        ]

    def test_a_folder_without_pairs_says_so(self, tmp_path):
        save(tmp_path / "a.png")
        with pytest.raises(TrainingDataError, match="No pair"):
            data.read_whole_slices(tmp_path)


class TestReadGrey:
    @pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
    def test_modes_agree(self, tmp_path, mode):
        save(tmp_path / "a.png", grey=90, mode=mode)
        pixels = data.read_grey(tmp_path / "a.png")
        assert (pixels.dtype, pixels.shape, int(pixels[0, 0])) == (np.uint8, (70, 80), 90)

    def test_a_damaged_picture_is_named(self, tmp_path):
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n and nothing more")
        with pytest.raises(TrainingDataError, match=r"a\.png cannot be read"):
            data.read_grey(tmp_path / "a.png")


class TestSplits:
    def patients(self, count: int = 600) -> list[str]:
        return [f"patient-{number}" for number in range(count)]

    def split(self, patients, **changes):
        return data.split_of_patients(patients, **({"seed": 0, "valid_share": 0.15, "test_share": 0.15} | changes))

    def test_shares_are_about_those_asked_for(self):
        counts = np.unique(list(self.split(self.patients()).values()), return_counts=True)
        shares = dict(zip(*(value.tolist() for value in counts), strict=True))
        assert abs(shares["test"] / 600 - 0.15) < 0.05
        assert abs(shares["valid"] / 600 - 0.15) < 0.05

    def test_nobody_moves_when_others_come_or_go(self):
        everybody, some = self.split(self.patients()), self.split(self.patients(100))
        assert {name: everybody[name] for name in some} == some

    def test_another_seed_is_another_split(self):
        assert self.split(self.patients()) != self.split(self.patients(), seed=1)

    def test_repeated_slices_of_a_patient_change_nothing(self):
        assert self.split(self.patients() * 3) == self.split(self.patients())

    def test_of_a_handful_one_is_for_test_and_one_for_validation(self):
        split = data.split_few_patients(["a", "b", "c", "d", "a"], seed=0)
        assert sorted(split.values()) == ["test", "train", "train", "valid"]
        assert split == data.split_few_patients(["d", "c", "b", "a"], seed=0)

    @pytest.mark.parametrize("count", [0, 1, 2])
    def test_two_patients_cannot_be_split(self, count):
        assert set(data.split_few_patients(self.patients(count), seed=0).values()) <= {"train"}


class TestFingerprint:
    entry = ManifestEntry(set="s", path="p", split="train", group="g", sha256="x")

    def test_order_does_not_matter(self):
        other = ManifestEntry(set="s", path="q", split="train", group="g", sha256="x")
        assert data.fingerprint([self.entry, other]) == data.fingerprint([other, self.entry])

    @pytest.mark.parametrize(
        "change", [{"split": "test"}, {"group": "h"}, {"sha256": "y"}, {"path": "q"}, {"set": "t"}]
    )
    def test_any_change_shows(self, change):
        changed = ManifestEntry(**(vars(self.entry) | change))
        assert data.fingerprint([self.entry]) != data.fingerprint([changed])


class TestFolders:
    def test_nothing_there_is_said_with_what_to_do(self, tmp_path):
        with pytest.raises(TrainingDataError, match="--data"):
            data.find_folders(tmp_path)
        with pytest.raises(TrainingDataError, match="does not exist"):
            data.find_folders(tmp_path / "nowhere")

    @needs_real_data
    def test_the_real_sets_are_found_whole(self):
        folders = data.find_folders(REAL)
        chest = data.read_chest_ctscan(folders.chest_ctscan)
        assert [sum(one.split == split for one in chest) for split in data.SPLITS] == [613, 72, 315]
        assert len({one.sha1 for one in chest}) == 847
        assert len(data.read_lidc_nodules(folders.lidc_nodules)) == 4688
        assert len(data.read_whole_slices(folders.whole_slices)) == 98

    @needs_real_data
    def test_the_known_conflict_of_the_training_split_is_dropped(self):
        chest = data.read_chest_ctscan(data.find_folders(REAL).chest_ctscan)
        kept = {one.image.name for one in data.without_conflicts([one for one in chest if one.split == "train"])}
        assert not {"l4.png", "sq2.png"} & kept
