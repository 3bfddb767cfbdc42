"""Groups of a set that has none: the same slice cropped again, another slice of the patient, another patient."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.metrics import adjusted_rand_score

from ml.errors import MissingDependencyError
from ml.phantom import PhantomSpec, make_phantom
from pipelines.ingest import groups as grouping
from pipelines.ingest.groups import (
    agreement,
    candidate_pairs,
    components,
    count_inliers,
    given_groups,
    infer_groups,
    keypoints_of,
    perceptual_hash,
    read_cache,
    write_groups,
)
from pipelines.ingest.pictures import Group, Picture, Style, read_class_set, with_groups


def phantom(seed: int) -> np.ndarray:
    return make_phantom(seed, spec=PhantomSpec(size=320, window="wide", level=0.5)).pixels


def chest(seed: int, *, other: float = 0.0) -> np.ndarray:
    """A picture with keypoints of its own for each seed; `other` mixes in another one, as a neighbouring slice does."""
    rough = [np.random.default_rng(number).normal(size=(240, 260)) for number in (seed, 100 + seed)]
    smooth = gaussian_filter((1 - other) * rough[0] + other * rough[1], 2.5)
    return np.clip(128 + smooth / smooth.std() * 45, 0, 255).astype(np.uint8)


def recropped(pixels: np.ndarray) -> np.ndarray:
    """The same slice as another export shows it: cropped, larger, brighter, JPEG."""
    picture = Image.fromarray(pixels[12:-8, 10:-14]).resize((410, 380), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    picture.point([min(255, round(value * 1.1)) for value in range(256)]).save(stream, format="JPEG", quality=85)
    return np.asarray(Image.open(stream))


@pytest.fixture(scope="module")
def patients(tmp_path_factory) -> Path:
    """Four patients; of the first the same slice twice and a neighbouring one."""
    data = tmp_path_factory.mktemp("patients") / "Data"
    slices = {
        "train/normal/a.png": chest(1),
        "test/normal/a-again.png": recropped(chest(1)),
        "test/normal/a-next.png": chest(1, other=0.4),
        "train/adenocarcinoma/b.png": chest(2),
        "valid/adenocarcinoma/c.png": chest(3),
        "test/squamous.cell.carcinoma/d.png": chest(4),
    }
    for name, pixels in slices.items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(data / name)
    return data


@pytest.fixture
def pictures(patients, tmp_path):
    return read_class_set(patients, out=tmp_path / "copy")[0]


def picture(name: str, *, sha1: str = "s", pixels: str = "p") -> Picture:
    return Picture(
        path=name,
        split="train",
        class_name="normal",
        sha256="x",
        sha1=sha1,
        pixels_sha256=pixels,
        width=9,
        height=9,
        mode="L",
        format="PNG",
        style=Style(rim=0.0, histogram=(1.0,)),
    )


class TestInference:
    def test_slices_and_patients_are_told_apart(self, patients, pictures, tmp_path):
        groups = infer_groups(pictures, data=patients, cache=tmp_path / "cache")
        first, again = groups["train/normal/a.png"], groups["test/normal/a-again.png"]
        assert first.same_slice_id == again.same_slice_id
        following = groups["test/normal/a-next.png"]
        assert first.patient_group_id == following.patient_group_id
        assert first.same_slice_id != following.same_slice_id
        others = ("train/adenocarcinoma/b.png", "valid/adenocarcinoma/c.png", "test/squamous.cell.carcinoma/d.png")
        assert len({groups[name].patient_group_id for name in others} | {first.patient_group_id}) == 4
        assert len({groups[name].same_slice_id for name in others} | {first.same_slice_id}) == 4

    def test_a_second_run_compares_nothing_and_says_the_same(self, patients, pictures, tmp_path, monkeypatch):
        first = infer_groups(pictures, data=patients, cache=tmp_path / "cache")

        def no_more(*pictures):
            pytest.fail("A pair that is known was compared again.")

        monkeypatch.setattr(grouping, "count_inliers", no_more)
        assert infer_groups(pictures, data=patients, cache=tmp_path / "cache") == first

    def test_a_new_picture_is_compared_and_the_old_pairs_are_not(self, patients, pictures, tmp_path, monkeypatch):
        infer_groups(pictures[:-1], data=patients, cache=tmp_path / "cache")
        compared = []

        def counting(one, other):
            compared.append((one, other))
            return count_inliers(one, other)

        monkeypatch.setattr(grouping, "count_inliers", counting)
        infer_groups(pictures, data=patients, cache=tmp_path / "cache")
        assert len(compared) == len(pictures) - 1

    @pytest.mark.parametrize("content", ["", "no json", "[]", '{"method": "older", "inliers": {"a-b": 99}}', "null"])
    def test_a_cache_that_cannot_be_used_is_made_anew(self, tmp_path, content):
        (tmp_path / "matches.json").write_text(content)
        assert read_cache(tmp_path) == {}

    def test_the_order_of_the_pictures_does_not_matter(self, patients, pictures, tmp_path):
        one = infer_groups(pictures, data=patients, cache=tmp_path / "one")
        other = infer_groups(tuple(reversed(pictures)), data=patients, cache=tmp_path / "other")
        paths = [picture.path for picture in pictures]
        assert agreement(
            [one[path].patient_group_id for path in paths], truth=[other[path].patient_group_id for path in paths]
        ).adjusted_rand_index == pytest.approx(1.0)
        assert json.loads((tmp_path / "one/matches.json").read_text()).keys() == {"method", "inliers"}

    def test_progress_names_its_steps(self, patients, pictures, tmp_path):
        seen = []
        infer_groups(
            pictures,
            data=patients,
            cache=tmp_path,
            progress=lambda name, done, total: seen.append((name, done == total)),
        )
        assert [name for name, is_last in seen if is_last] == [
            "looking for likely pairs",
            "finding keypoints",
            "comparing pairs",
        ]

    def test_no_pictures_and_one_picture_are_no_trouble(self, patients, pictures, tmp_path):
        assert infer_groups((), data=patients, cache=tmp_path) == {}
        alone = infer_groups(pictures[:1], data=patients, cache=tmp_path)
        assert alone == {pictures[0].path: Group(same_slice_id="1", patient_group_id="1")}

    def test_a_picture_without_keypoints_stands_alone(self):
        flat = keypoints_of(np.full((64, 64), 90, np.uint8))
        assert flat.places.shape == (0, 2)
        assert count_inliers(flat, keypoints_of(phantom(1))) == 0

    def test_without_opencv_it_says_what_to_install(self, patients, pictures, tmp_path, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "cv2", None)
        with pytest.raises(MissingDependencyError, match=r"requirements/ml\.txt"):
            infer_groups(pictures, data=patients, cache=tmp_path)


class TestPairs:
    def test_a_hash_survives_size_and_greys(self):
        one, same, other = (perceptual_hash(pixels) for pixels in (phantom(1), recropped(phantom(1)), phantom(2)))
        assert one.shape == (255,)
        assert (one == same).mean() > (one == other).mean()
        assert (one == same).mean() > 0.75

    def test_each_has_its_nearest_and_no_pair_stands_twice(self):
        hashes = np.sign(np.random.default_rng(0).normal(size=(700, 32))).astype(np.int8)
        hashes[650] = hashes[3]
        pairs = candidate_pairs(hashes, nearest=2)
        assert (3, 650) in pairs
        assert len(set(pairs)) == len(pairs)
        assert all(one < other for one, other in pairs)
        assert {place for pair in pairs for place in pair} == set(range(700))

    def test_components_are_numbered_as_they_appear(self):
        assert components(5, pairs=[(0, 3), (3, 4)]) == [1, 2, 3, 1, 1]
        assert components(2, pairs=[]) == [1, 2]


class TestAgreement:
    @pytest.mark.parametrize("seed", range(4))
    def test_the_index_is_that_of_scikit_learn(self, seed):
        rng = np.random.default_rng(seed)
        one, other = (list(map(str, rng.integers(0, 5, 40))) for _ in range(2))
        assert agreement(one, truth=other).adjusted_rand_index == pytest.approx(adjusted_rand_score(other, one))

    def test_precision_and_recall_are_of_pairs(self):
        found = agreement(["1", "1", "1", "2"], truth=["a", "a", "b", "b"])
        assert (found.pair_precision, found.pair_recall) == (pytest.approx(1 / 3), pytest.approx(1 / 2))
        assert agreement(["1", "2"], truth=["a", "b"]).adjusted_rand_index == 1.0

    def test_different_things_cannot_be_compared(self):
        with pytest.raises(ValueError, match="same things"):
            agreement(["1"], truth=[])


class TestGivenGroups:
    def write(self, folder: Path, *lines: str) -> Path:
        path = folder / "groups.csv"
        path.write_text("\n".join(("path,sha1,same_slice_id,patient_group_id", *lines)) + "\n")
        return path

    def test_they_are_taken_where_they_speak_of_every_picture(self, tmp_path):
        path = self.write(tmp_path, "a.png,s,7,3", "gone.png,t,8,4")
        assert given_groups(path, pictures=[picture("a.png")])["a.png"] == Group("7", "3")

    @pytest.mark.parametrize(
        "line", ["b.png,s,7,3", "a.png,other,7,3", "a.png,s,,3", "a.png,s,7,", "a.png", "a.png,s,7", ""]
    )
    def test_they_are_not_taken_where_they_do_not(self, tmp_path, line):
        assert given_groups(self.write(tmp_path, line), pictures=[picture("a.png")]) is None

    @pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"x,y\n1,2\n", b'path\n"a' + b"x" * 200_000])
    def test_a_file_that_is_none_is_no_trouble(self, tmp_path, content):
        (tmp_path / "groups.csv").write_bytes(content)
        assert given_groups(tmp_path / "groups.csv", pictures=[picture("a.png")]) is None

    def test_what_is_written_is_read_again(self, tmp_path):
        groups = {"a, b.png": Group("1", "2")}
        one = picture("a, b.png")
        write_groups(with_groups([one], groups=groups), path=tmp_path / "groups.csv")
        assert given_groups(tmp_path / "groups.csv", pictures=[one]) == groups
        with (tmp_path / "groups.csv").open(newline="") as file:
            assert next(csv.DictReader(file))["class"] == "normal"
