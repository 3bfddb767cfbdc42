"""``manage.py analyse`` and ``make_fixtures``, as a person or a script at the terminal meets them."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from PIL import Image

from ml.images import read_slice
from ml.management.commands import analyse as analyse_command
from ml.management.commands.make_fixtures import RECIPES
from ml.runtime import STARTER_DIRECTORY

ROOT = Path(__file__).resolve().parents[2]
KEYS = ["file", "model_version", "probabilities", "malignant_probability", "findings", "duration_ms"]


@pytest.fixture(autouse=True)
def _hand_made(monkeypatch, hand_made_model):
    monkeypatch.setattr(analyse_command, "load_model", lambda: hand_made_model)


@pytest.fixture
def slices(tmp_path) -> list[Path]:
    paths = []
    for name, place in (("a.png", 60), ("b.png", 90)):
        pixels = np.zeros((180, 200), np.uint8)
        pixels[20:-20, 20:-20] = 60
        pixels[place : place + 20, 80:100] = 255
        Image.fromarray(pixels).save(tmp_path / name)
        paths.append(tmp_path / name)
    return paths


def run(*arguments) -> str:
    out = io.StringIO()
    call_command("analyse", *map(str, arguments), stdout=out)
    return out.getvalue()


def run_failing(*arguments) -> tuple[str, str]:
    out = io.StringIO()
    with pytest.raises(CommandError) as caught:
        call_command("analyse", *map(str, arguments), stdout=out)
    assert caught.value.returncode == 1
    return out.getvalue(), str(caught.value)


def test_json_is_one_object_a_line_in_the_order_given(slices):
    lines = [json.loads(line) for line in run(*reversed(slices), "--json").splitlines()]
    assert [line["file"] for line in lines] == [str(path) for path in reversed(slices)]
    assert list(lines[0]) == KEYS
    assert lines[1]["findings"][0]["box"] == [80, 60, 20, 20]


def test_table_names_classes_findings_and_model(slices):
    text = run(slices[0])
    for part in ("a.png", "hand-made-1", "adenocarcinoma", "60.0%", "80,60 20 x 20", "not a diagnosis"):
        assert part in text


def test_a_bad_file_is_named_and_the_others_are_done(slices, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    out, message = run_failing(slices[0], bad, tmp_path / "absent.png", slices[1], "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [sorted(line) == ["error", "file"] for line in lines] == [False, True, True, False]
    assert lines[1]["file"] == str(bad)
    assert lines[1]["error"].endswith(".")
    assert message.startswith("2 of 4 files")


def test_table_says_why_a_file_failed(tmp_path):
    out, message = run_failing(tmp_path / "absent.png")
    assert "There is no such file" in out
    assert message.startswith("The file could not")


def test_a_surprise_is_logged_and_told_in_a_fixed_sentence(slices, monkeypatch, caplog):
    def explode(path, *, model):
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(analyse_command, "analyse", explode)
    out, _ = run_failing(slices[0], "--json")
    assert "secret detail" not in out
    assert "fault in this program" in json.loads(out)["error"]
    assert "ZeroDivisionError" in caplog.text


def test_masks_have_the_files_size_and_stem(slices, tmp_path):
    folder = tmp_path / "new" / "masks"
    run(*slices, "--json", "--masks", folder)
    assert sorted(path.name for path in folder.iterdir()) == ["a.png", "b.png"]
    with Image.open(folder / "a.png") as image:
        assert (image.mode, image.size) == ("L", (200, 180))
        mask = np.asarray(image)
    assert set(np.unique(mask)) == {0, 255}
    assert mask[60:80, 80:100].min() == 255
    assert np.count_nonzero(mask) == 400


def test_masks_of_equal_stems_do_not_overwrite_each_other(slices, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.png").write_bytes(slices[1].read_bytes())
    run(slices[0], other / "a.png", "--masks", tmp_path / "masks")
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["a-2.png", "a.png"]


def test_masks_never_overwrite_an_input(slices, tmp_path):
    before = slices[0].read_bytes()
    run(*slices, "--masks", tmp_path)
    assert slices[0].read_bytes() == before
    assert (tmp_path / "a-2.png").exists()
    assert (tmp_path / "b-2.png").exists()


def test_running_again_gives_the_same_masks(slices, tmp_path):
    for _ in range(2):
        run(*slices, "--masks", tmp_path / "masks")
    assert len(list((tmp_path / "masks").iterdir())) == 2


def test_a_mask_folder_that_cannot_be_made_is_a_sentence(slices):
    with pytest.raises(CommandError, match="cannot be made"):
        run(slices[0], "--masks", slices[1] / "below-a-file")


def test_a_name_that_is_no_utf8_survives(slices, tmp_path):
    strange = Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.png"))
    strange.write_bytes(slices[0].read_bytes())
    assert json.loads(run(strange, "--json"))["file"].endswith("caf\N{REPLACEMENT CHARACTER}.png")
    run(strange)


def test_no_file_is_a_usage_error():
    with pytest.raises(CommandError):
        call_command("analyse")


def test_it_asks_no_database(slices, monkeypatch):
    # No db fixture is requested: pytest-django fails the test at the first query.
    assert run(slices[0], "--json")
    assert analyse_command.Command.requires_system_checks == []


@pytest.mark.skipif(not (STARTER_DIRECTORY / "model.json").exists(), reason="the starter model is not in this checkout")
def test_the_real_command_on_a_generated_slice(tmp_path):
    code = (
        "import atexit, sys\n"
        "from django.core.management import execute_from_command_line\n"
        "heavy = ('tensorflow', 'keras', 'sklearn', 'matplotlib', 'cv2', 'mlflow', 'pandas')\n"
        "atexit.register(lambda: print([name for name in heavy if name in sys.modules], file=sys.stderr))\n"
        "execute_from_command_line(sys.argv)\n"
    )
    arguments = ["analyse", "fixtures/series-a-3.png", "nowhere.png", "--json", "--masks", str(tmp_path)]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "portal.settings.test"}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    good, bad = (json.loads(line) for line in done.stdout.splitlines())
    assert list(good) == KEYS
    assert sum(good["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert bad["file"] == "nowhere.png"
    assert "[]" in done.stderr
    with Image.open(tmp_path / "series-a-3.png") as image:
        assert image.size == (320, 320)


@pytest.mark.skipif(not (STARTER_DIRECTORY / "model.json").exists(), reason="the starter model is not in this checkout")
def test_a_reader_that_goes_away_gets_no_traceback():
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "portal.settings.test"}
    command = [sys.executable, "manage.py", "analyse", "nowhere.png", "fixtures/two-nodules.png", "--json"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 1
    assert "Traceback" not in said


# --- fixtures ---------------------------------------------------------------------------------------------------------


def test_fixtures_in_the_repository_are_what_the_code_draws(tmp_path):
    call_command("make_fixtures", "--out", str(tmp_path), stdout=io.StringIO())
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {path.name for path in (ROOT / "fixtures").iterdir()}
    for recipe in RECIPES:
        fresh, kept = read_slice(tmp_path / recipe.name), read_slice(ROOT / "fixtures" / recipe.name)
        # Another processor may round a pixel differently; the picture is the same.
        assert np.abs(fresh.pixels.astype(int) - kept.pixels).mean() < 0.5


def test_fixtures_are_small_and_labelled():
    files = [path for path in (ROOT / "fixtures").iterdir() if path.suffix != ".md"]
    assert len(files) >= 12
    assert sum(path.stat().st_size for path in files) < 1_000_000
    for path in files:
        corner = read_slice(path).pixels[-28:, :100]
        assert (corner >= 200).sum() > 120


def test_provenance_names_every_file():
    text = (ROOT / "fixtures" / "PROVENANCE.md").read_text(encoding="utf-8")
    for recipe in RECIPES:
        assert f"`{recipe.name}`" in text


def test_a_fixture_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(CommandError, match="cannot be written"):
        call_command("make_fixtures", "--out", str(tmp_path / "file" / "below"), stdout=io.StringIO())
