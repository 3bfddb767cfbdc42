"""The reading page's scripts: their own tests, and the bundle that is made of them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools import ROOT, skip_or_fail

FRONTEND = ROOT / "frontend"
BUILT = ROOT / "portal/static/portal/build"


def node(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run Node.js as make does: the virtual environment's, or else the machine's."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    program = shutil.which("node", path=path)
    if program is None or not (FRONTEND / "node_modules/esbuild").exists():
        skip_or_fail("the reading page's packages are not installed (make frontend)")
    return subprocess.run(
        [program, *map(str, arguments)], cwd=FRONTEND, capture_output=True, text=True, check=False, timeout=240
    )


def test_the_scripts_pass_their_own_tests() -> None:
    done = node("--test", *sorted(path.relative_to(FRONTEND) for path in (FRONTEND / "tests").glob("*.test.js")))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert re.search(r"pass [1-9]", done.stdout)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundle, made anew."""
    folder = tmp_path_factory.mktemp("bundle")
    done = node("build.mjs", folder)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def test_the_same_sources_give_the_same_bytes(bundle: Path) -> None:
    if not (BUILT / "reading.js").exists():
        skip_or_fail("the reading page's scripts are not bundled (make frontend)")
    for name in ("reading.js", "licences.txt"):
        assert (bundle / name).read_bytes() == (BUILT / name).read_bytes(), f"{name} is out of date: make frontend"


def test_the_bundle_builds_no_function_from_text_and_sets_no_style_as_an_attribute(bundle: Path) -> None:
    text = (bundle / "reading.js").read_text()
    assert re.findall(r".{0,40}(?:new Function\(|(?<![\w.$])eval\().{0,40}", text) == []
    assert re.findall(r""".{0,40}setAttribute\(["'`]style["'`].{0,40}""", text) == []


def test_the_bundle_asks_no_foreign_server_and_stays_within_its_size(bundle: Path) -> None:
    text = (bundle / "reading.js").read_text()
    assert not re.search(r"(?:fetch|import|importScripts)\(\s*[\"'`]https?://", text)
    assert (bundle / "reading.js").stat().st_size < 4_000_000


def test_the_licence_of_everything_bundled_lies_beside_the_bundle(bundle: Path) -> None:
    licences = (bundle / "licences.txt").read_text()
    for package in ("@cornerstonejs/core 5", "@cornerstonejs/tools 5", "@kitware/vtk.js", "gl-matrix", "comlink"):
        assert package in licences
    assert licences.count("Permission is hereby granted") > 5
    assert "esbuild" not in licences
