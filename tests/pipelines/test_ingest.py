"""Ingestion as a whole: every file is described or set aside with a reason; the folder is complete or not there."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ml.data import read_chest_ctscan, read_lidc_nodules, read_whole_slices
from ml.errors import TrainingDataError
from pipelines.ingest.__main__ import main
from pipelines.ingest.errors import BusyError, IngestError
from pipelines.ingest.folder import complete_folder
from pipelines.ingest.stage import ingest
from tests.pipelines.conftest import save_picture, zip_folder
from tests.tools import ROOT


@pytest.fixture
def run(tmp_path):
    """Ingest into `out`, with a cache of its own."""

    def start(source: Path, **options):
        return ingest(source, out=tmp_path / "out", cache=tmp_path / "cache", **options)

    return start


def manifest(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return {Path(row["path"]).name: row for row in csv.DictReader(file)}


class TestClassSet:
    def test_every_picture_is_described(self, class_set, run, tmp_path):
        run(class_set)
        rows = manifest(tmp_path / "out")
        assert len(rows) == 7
        row = rows["b.png"]
        assert row["path"] == "valid/adenocarcinoma_left/b.png"
        assert (row["set"], row["split"], row["class_name"]) == ("chest-ctscan-images", "valid", "adenocarcinoma")
        assert (row["mode"], row["width"], row["height"], row["format"]) == ("L", "70", "64", "PNG")
        assert len(row["sha256"]) == 64
        assert row["group"]
        assert rows["d.png"]["format"] == "JPEG"

    def test_training_is_the_original_of_a_copy(self, class_set, run, tmp_path):
        run(class_set)
        rows = manifest(tmp_path / "out")
        assert rows["copy.png"]["duplicate_of"] == "train/normal/a.png"
        assert rows["a.png"]["duplicate_of"] == ""

    def test_one_picture_in_two_files_is_one(self, class_set, run, tmp_path):
        data = class_set / "chest-ctscan-images/Data"
        with Image.open(data / "train/normal/a.png") as image:
            image.convert("L").save(data / "test/normal/copy.png")
        ingested = run(class_set)
        rows = manifest(tmp_path / "out")
        assert rows["copy.png"]["sha256"] != rows["a.png"]["sha256"]
        assert rows["copy.png"]["duplicate_of"] == "train/normal/a.png"
        assert {one.patient_group_id for one in ingested.pictures if one.class_name == "normal"} == {
            rows["a.png"]["group"]
        }

    def test_a_slice_of_two_classes_is_a_conflict(self, class_set, run, tmp_path):
        run(class_set)
        rows = manifest(tmp_path / "out")
        assert rows["l4.png"]["conflict_with"].endswith("sq2.png")
        assert rows["sq2.png"]["conflict_with"].endswith("l4.png")
        assert rows["c.png"]["conflict_with"] == ""

    def test_training_reads_what_was_written(self, class_set, run, tmp_path):
        run(class_set)
        images = read_chest_ctscan(tmp_path / "out/data/chest-ctscan-images")
        assert len(images) == 7
        assert all(one.patient_group_id and one.same_slice_id for one in images)
        by_name = {one.image.name: one for one in images}
        assert by_name["a.png"].patient_group_id == by_name["copy.png"].patient_group_id
        assert by_name["a.png"].patient_group_id != by_name["c.png"].patient_group_id

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("test/normal/cut.png", b"\x89PNG\r\n\x1a\n"),
            ("test/normal/empty.png", b""),
            ("test/normal/notes.txt", b"a note"),
            ("test/normal/Thumbs.db", b"\xd0\xcf\x11\xe0"),
            ("test/normal/bitmap.png", b"BM" + b"\0" * 60),
            ("test/normal/slice.png", b"\0" * 128 + b"DICM" + b"\0" * 64),
            ("test/stray.png", b"\x89PNG\r\n\x1a\n"),
            ("test/benign/x.png", b"\x89PNG\r\n\x1a\n"),
            ("test/normal/deep/x.png", b"\x89PNG\r\n\x1a\n"),
            ("validation/normal/x.png", b"\x89PNG\r\n\x1a\n"),
            ("test/normal/line\nbreak.png", b"\x89PNG\r\n\x1a\n"),
        ],
    )
    def test_what_cannot_be_used_is_set_aside_with_the_reason(self, class_set, run, tmp_path, name, content):
        path = class_set / "chest-ctscan-images/Data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        ingested = run(class_set)
        (aside,) = ingested.set_aside["chest-ctscan-images"]
        assert aside.path == name
        assert aside.reason.endswith(".")
        assert len(ingested.pictures) == 7
        assert not (tmp_path / "out/data/chest-ctscan-images/Data" / name).exists()
        report = json.loads((tmp_path / "out/data_report.json").read_text(encoding="utf-8"))
        assert [one["path"] for one in report["set_aside"]] == [name]
        assert repr(name.rsplit("/")[-1][:4])[1:-1] in (tmp_path / "out/data_report.md").read_text(encoding="utf-8")

    def test_links_and_pipes_are_set_aside_and_not_followed(self, class_set, run, tmp_path):
        data = class_set / "chest-ctscan-images/Data"
        (tmp_path / "secret").mkdir()
        save_picture(tmp_path / "secret/x.png", seed=99)
        (data / "test/normal/link.png").symlink_to(tmp_path / "secret/x.png")
        (data / "test/linked").symlink_to(tmp_path / "secret", target_is_directory=True)
        os.mkfifo(data / "test/normal/pipe.png")
        ingested = run(class_set)
        assert {one.path for one in ingested.set_aside["chest-ctscan-images"]} == {
            "test/linked",
            "test/normal/link.png",
            "test/normal/pipe.png",
        }
        assert len(ingested.pictures) == 7

    def test_a_name_that_is_no_text_is_set_aside(self, class_set, run, tmp_path):
        folder = os.fsencode(class_set / "chest-ctscan-images/Data/test/normal")
        with (class_set / "chest-ctscan-images/Data/train/normal/a.png").open("rb") as file:
            Path(os.fsdecode(folder + b"/\xff\xfe.png")).write_bytes(file.read())
        ingested = run(class_set)
        assert "cannot be printed" in ingested.set_aside["chest-ctscan-images"][0].reason
        assert json.loads((tmp_path / "out/data_report.json").read_text(encoding="utf-8"))["set_aside"]

    def test_pictures_that_are_no_slices_are_set_aside(self, class_set, run):
        folder = class_set / "chest-ctscan-images/Data/test/normal"
        Image.fromarray(np.zeros((64, 64), np.uint8)).save(folder / "black.png")
        colours = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
        Image.fromarray(colours).save(folder / "photograph.png")
        save_picture(folder / "tiny.png", seed=7, size=(8, 8))
        save_picture(folder / "strip.png", seed=8, size=(400, 40))
        frames = [Image.fromarray(np.full((64, 64), level, np.uint8)) for level in (10, 200)]
        frames[0].save(folder / "film.png", save_all=True, append_images=frames[1:])
        reasons = {one.path.split("/")[-1]: one.reason for one in run(class_set).set_aside["chest-ctscan-images"]}
        assert set(reasons) == {"black.png", "photograph.png", "tiny.png", "strip.png", "film.png"}

    def test_a_pixel_flood_is_set_aside_before_it_is_decoded(self, class_set, run):
        path = class_set / "chest-ctscan-images/Data/test/normal/flood.png"

        def chunk(kind: bytes, content: bytes) -> bytes:
            check = zlib.crc32(kind + content).to_bytes(4, "big")
            return len(content).to_bytes(4, "big") + kind + content + check

        header = chunk(b"IHDR", (60_000).to_bytes(4, "big") * 2 + b"\x08\x00\x00\x00\x00")
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
        (aside,) = run(class_set).set_aside["chest-ctscan-images"]
        assert "pixels" in aside.reason

    def test_a_folder_that_is_itself_the_set_will_do(self, class_set, run, tmp_path):
        assert len(run(class_set / "chest-ctscan-images").pictures) == 7
        assert len(run(class_set / "chest-ctscan-images/Data").pictures) == 7

    def test_what_belongs_to_no_set_is_listed(self, class_set, run):
        (class_set / "holiday").mkdir()
        save_picture(class_set / "holiday/beach.png", seed=1)
        (class_set / "chest-ctscan-images/licence.txt").write_text("free")
        aside = run(class_set).set_aside
        assert [one.path for one in aside["source"]] == ["holiday"]
        assert [one.path for one in aside["chest-ctscan-images"]] == ["../licence.txt"]

    def test_nothing_usable_is_an_error_that_names_the_first_reason(self, tmp_path, run):
        save_picture(tmp_path / "bad/train/normal/x.png", seed=1, size=(8, 8))
        with pytest.raises(IngestError, match=r"Not one picture.*x\.png"):
            run(tmp_path / "bad")
        assert not (tmp_path / "out").exists()


class TestOutlinedSets:
    def test_sound_pairs_are_taken_and_training_reads_them(self, all_sets, run, tmp_path):
        ingested = run(all_sets)
        assert not ingested.set_aside
        rows = manifest(tmp_path / "out")
        assert len(rows) == 14
        assert rows["nodule0_slice3.png"]["group"] == "P1"
        data = tmp_path / "out/data"
        assert len(read_lidc_nodules(data / "lidc-nodules")) == 4
        assert {one.patient for one in read_whole_slices(data / "msd-lung-slices")} == {"s0", "s1"}
        report = json.loads((tmp_path / "out/data_report.json").read_text(encoding="utf-8"))
        assert report["nodules"]["patients"] == 2
        assert report["slices"]["without_tumour"] == 3

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ("P0/none.png,P0/nodule0_slice0_mask.png,P0,0,4,31,1", "cannot be read"),
            ("../../secret.png,P0/nodule0_slice0_mask.png,P0,0,4,31,1", "outside the set"),
            ("/etc/passwd,P0/nodule0_slice0_mask.png,P0,0,4,31,1", "outside the set"),
            ("P0/nodule0_slice0.png,P0/nodule0_slice0.png,,0,4,31,1", "no patient"),
            ("P0/nodule0_slice0.png,P0/nodule0_slice0_mask.png,P0,0,4,many,1", "no area"),
            ("P0/nodule0_slice0.png,P0/nodule0_slice0_mask.png,P0,0,4,31,9", "none of 1 to 5"),
            ("P0/nodule0_slice0.png", "cut short"),
        ],
    )
    def test_a_bad_line_of_the_index_is_set_aside(self, all_sets, run, tmp_path, line, reason):
        with (all_sets / "lidc-nodules/index.csv").open("a") as file:
            file.write(line + "\n")
        (aside,) = run(all_sets).set_aside["lidc-nodules"]
        assert reason in aside.reason
        assert len(read_lidc_nodules(tmp_path / "out/data/lidc-nodules")) == 4

    def test_a_mask_that_does_not_fit_takes_its_picture_along(self, all_sets, run, tmp_path):
        mask = all_sets / "lidc-nodules/P0/nodule0_slice0_mask.png"
        save_picture(mask, seed=1, mode="L", size=(32, 32))
        (all_sets / "msd-lung-slices/s0/slice0_mask.png").write_bytes(b"damaged")
        aside = run(all_sets).set_aside
        assert "32 x 32" in aside["lidc-nodules"][0].reason
        assert "mask cannot be read" in aside["msd-lung-slices"][0].reason
        assert len(read_lidc_nodules(tmp_path / "out/data/lidc-nodules")) == 3

    def test_what_has_no_partner_is_set_aside(self, all_sets, run):
        slices = all_sets / "msd-lung-slices"
        (slices / "s0/slice0.png").unlink()
        (slices / "s1/slice1_mask.png").unlink()
        (slices / "readme.txt").write_text("hello")
        save_picture(all_sets / "lidc-nodules/P0/extra.png", seed=1)
        aside = run(all_sets).set_aside
        assert {one.path for one in aside["msd-lung-slices"]} == {
            "s0/slice0_mask.png",
            "s1/slice1.png",
            "readme.txt",
        }
        assert [one.path for one in aside["lidc-nodules"]] == ["P0/extra.png"]

    @pytest.mark.parametrize("content", [b"", b"image,mask\n", b"\xff\xfe\x00", b'"' + b"x" * 200_000])
    def test_an_index_that_cannot_be_read_ends_it_with_a_sentence(self, all_sets, run, tmp_path, content):
        (all_sets / "lidc-nodules/index.csv").write_bytes(content)
        with pytest.raises(TrainingDataError, match="index"):
            run(all_sets)
        assert not (tmp_path / "out").exists()


class TestArchives:
    def test_an_archive_is_what_its_folder_is(self, class_archive, run, tmp_path):
        assert len(run(class_archive).pictures) == 7
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
            "data",
            "data_report.json",
            "data_report.md",
            "manifest.csv",
        ]

    def test_an_archive_of_one_folder_with_everything_in_it_will_do(self, all_sets, run, tmp_path):
        (tmp_path / "wrapped").mkdir()
        all_sets.rename(tmp_path / "wrapped/my data")
        ingested = run(zip_folder(tmp_path / "wrapped", target=tmp_path / "w.zip"))
        assert (len(ingested.pictures), len(ingested.nodules), len(ingested.slices)) == (7, 4, 3)

    def test_an_archive_of_the_sets_own_folder_will_do(self, class_set, run, tmp_path):
        assert len(run(zip_folder(class_set, target=tmp_path / "s.zip")).pictures) == 7

    def test_a_file_that_is_no_archive_is_a_sentence(self, tmp_path, run):
        (tmp_path / "x.zip").write_bytes(b"no archive")
        with pytest.raises(IngestError, match="no ZIP archive"):
            run(tmp_path / "x.zip")


class TestWhole:
    def test_a_second_run_replaces_the_first(self, class_set, run, tmp_path):
        run(class_set)
        (class_set / "chest-ctscan-images/Data/test/adenocarcinoma/c.png").unlink()
        run(class_set)
        assert len(manifest(tmp_path / "out")) == 6
        assert not (tmp_path / "out/data/chest-ctscan-images/Data/test/adenocarcinoma/c.png").exists()

    def test_a_failed_run_leaves_the_folder_of_before(self, class_set, run, tmp_path):
        run(class_set)
        with pytest.raises(TrainingDataError):
            run(tmp_path / "cache")
        assert len(manifest(tmp_path / "out")) == 7

    def test_a_source_within_the_target_is_refused(self, class_set, run, tmp_path):
        run(class_set)
        with pytest.raises(IngestError, match="Name another folder"):
            run(tmp_path / "out/data")
        assert len(manifest(tmp_path / "out")) == 7

    def test_killed_at_any_moment_it_leaves_nothing_half_written(self, all_sets, tmp_path):
        """Kill -9 at moments spread over a run; then a run that is left alone cleans up and completes."""
        command = [sys.executable, "-m", "pipelines.ingest", "--data", all_sets, "--out", tmp_path / "out"]
        command += ["--cache", tmp_path / "cache"]
        began = time.monotonic()
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        whole_run_s = time.monotonic() - began
        before = (tmp_path / "out/data_report.json").read_bytes()
        save_picture(all_sets / "chest-ctscan-images/Data/test/normal/new.png", seed=50)
        killed = 0
        for share in (0.5, 0.7, 0.8, 0.9):
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(whole_run_s * share)
            process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
            report = (tmp_path / "out/data_report.json").read_bytes()
            pictures = len([path for path in (tmp_path / "out/data").rglob("*.png") if path.is_file()])
            assert (report == before, pictures) in ((True, 21), (False, 22))
        assert killed
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        assert json.loads((tmp_path / "out/data_report.json").read_text())["class_set"]["pictures"] == 8
        assert sorted(path.name for path in tmp_path.iterdir() if "out" in path.name) == [".out.lock", "out"]

    def test_killed_between_the_two_renames_the_former_folder_counts(self, tmp_path):
        former, partial = tmp_path / ".out.former", tmp_path / ".out.partial-x"
        former.mkdir()
        (former / "kept").write_text("yes")
        partial.mkdir()
        with pytest.raises(ZeroDivisionError), complete_folder(tmp_path / "out"):
            raise ZeroDivisionError
        assert (tmp_path / "out/kept").read_text() == "yes"
        assert not former.exists()
        assert not partial.exists()

    def test_two_at_once_do_not_disturb_each_other(self, tmp_path):
        with complete_folder(tmp_path / "out") as first:
            (first / "x").write_text("first")
            with pytest.raises(BusyError, match="Wait"), complete_folder(tmp_path / "out"):
                pytest.fail("A second run was let in.")
        assert (tmp_path / "out/x").read_text() == "first"


class TestCommand:
    def test_it_says_what_came_of_it(self, class_set, tmp_path, capsys):
        (class_set / "chest-ctscan-images/Data/test/normal/x.txt").write_text("note")
        options = ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
        assert main(["--data", str(class_set), *options]) == 0
        said = capsys.readouterr()
        assert "7 pictures, 1 files set aside" in said.out
        assert "test/normal/x.txt: " in said.err

    def test_a_folder_without_the_sets_is_a_sentence_and_an_exit_code(self, tmp_path, capsys):
        (tmp_path / "empty").mkdir()
        assert main(["--data", str(tmp_path / "empty"), "--out", str(tmp_path / "out")]) == 1
        assert "--data" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    def test_a_folder_that_is_not_there_is_a_sentence(self, tmp_path, capsys):
        assert main(["--data", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 1
        assert "There is nothing at" in capsys.readouterr().err

    def test_without_credentials_a_download_says_what_to_do(self, tmp_path, capsys, monkeypatch):
        for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
        assert main(["--download", "--out", str(tmp_path / "out")]) == 1
        assert "KAGGLE_USERNAME" in capsys.readouterr().err
