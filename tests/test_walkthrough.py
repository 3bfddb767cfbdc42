"""The main job as docs/api.md tells it, with curl and in Python, against a portal with web and worker."""

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.documents import blocks_of
from tests.portal_processes import RunningPortal, running_portal
from tests.tools import ROOT, skip_or_fail

BLOCKS = blocks_of(ROOT / "docs/api.md")


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPortal]:
    with running_portal(tmp_path_factory.mktemp("walkthrough")) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the reader works: with a slice, and the client beside it."""
    shutil.copy(ROOT / "fixtures/solid-nodule.png", tmp_path / "slice.png")
    shutil.copy(ROOT / "docs/examples/portal_client.py", tmp_path)
    return tmp_path


def environment_of(portal: RunningPortal) -> dict[str, str]:
    return portal.environment | {"PORTAL": portal.address, "TOKEN": portal.tokens["doctor"]}


def run(command: list[str], *, portal: RunningPortal, folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, env=environment_of(portal), capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def is_a_picture_of_the_slice(path: Path) -> bool:
    with Image.open(path) as picture, Image.open(path.parent / "slice.png") as original:
        return picture.width / original.width == picture.height / original.height >= 1


def test_the_walk_with_curl(portal: RunningPortal, folder: Path) -> None:
    for tool in ("bash", "curl", "jq"):
        if shutil.which(tool) is None:
            skip_or_fail(f"no {tool} is installed (apt-get install {tool})")
    script = "".join(block.text for block in BLOCKS if block.language == "sh" and not block.reason)
    printed = run(["bash", "-euo", "pipefail", "-c", script], portal=portal, folder=folder)
    assert '"role": "doctor"' in printed
    assert "Nodule of the left upper lobe. PET-CT advised.\n" in printed
    assert "304\n" in printed
    assert is_a_picture_of_the_slice(folder / "mask.png")
    assert is_a_picture_of_the_slice(folder / "overlay.png")
    assert (folder / "report.pdf").read_bytes().startswith(b"%PDF-")
    assert len(zipfile.ZipFile(folder / "reports.zip").namelist()) >= 1
    assert set(json.loads((folder / "study.json").read_text())["slices"][0]["answer"]["probabilities"]) > {"normal"}


def test_the_walk_in_python_and_the_patient_has_the_report(portal: RunningPortal, folder: Path) -> None:
    (script,) = [block.text for block in BLOCKS if block.language == "python"]
    before = "import os\nPORTAL, TOKEN = os.environ['PORTAL'], os.environ['TOKEN']\n"
    printed = run([sys.executable, "-c", before + script], portal=portal, folder=folder)
    assert "R-4712" in printed
    assert is_a_picture_of_the_slice(folder / "mask.png")
    assert (folder / "report.pdf").read_bytes().startswith(b"%PDF-")


def test_the_client_as_a_program_and_what_it_says_when_it_is_refused(portal: RunningPortal, folder: Path) -> None:
    printed = run([sys.executable, "portal_client.py", "slice.png"], portal=portal, folder=folder)
    assert "adenocarcinoma" in printed
    assert is_a_picture_of_the_slice(folder / "overlay-1.png")
    (folder / "slice.png").write_text("no picture")
    refused = subprocess.run(
        [sys.executable, "portal_client.py", "slice.png"],
        cwd=folder,
        env=environment_of(portal),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 1
    assert "PortalError: slices: This file is not a picture" in refused.stderr
