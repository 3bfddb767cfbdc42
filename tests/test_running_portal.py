"""A portal with web and worker: the main job as docs/api.md tells it, the smoke test, and deployments that fail."""

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto import mock_aws
from PIL import Image

from infrastructure.deploy import CloudFormationStack, DeployError, deploy, roll_back
from infrastructure.smoke import patient_smoke, smoke
from tests.documents import blocks_of
from tests.infrastructure import templates
from tests.infrastructure.balancer import balancer
from tests.infrastructure.templates import NEW, OLD
from tests.portal_processes import RunningPortal, running_portal
from tests.tools import ROOT, skip_or_fail

BLOCKS = blocks_of(ROOT / "docs/api.md")
# The commands of these are run below, in the project's folder, as whoever follows them does.
DOCUMENTS_THAT_ARE_RUN = {
    "README.md",
    "docs/api.md",
    "docs/for-developers.md",
    "docs/for-ml-engineers.md",
    "docs/for-operators.md",
    "docs/upgrading.md",
}
# make is asked what it would do: the environment in which the tests run is made already.
RUN_BY_HAND = """
set -euo pipefail
PATH="$PWD/.venv/bin:$PATH"
make() { command make --dry-run "$@" >/dev/null; }
"""


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
    tokens = {"TOKEN": portal.tokens["doctor"], "PATIENT_TOKEN": portal.tokens["patient"]}
    return portal.environment | {"PORTAL": portal.address} | tokens


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
    assert "Automatic, not read by a doctor\n" in printed
    assert printed.endswith("ann@example.org\nHospital\n")
    assert "Please bring us the whole examination.\nrequested\nwithdrawn\n" in printed
    assert (folder / "automatic.pdf").read_bytes().startswith(b"%PDF-")
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


@pytest.mark.parametrize("document", sorted(DOCUMENTS_THAT_ARE_RUN - {"docs/api.md"}))
def test_the_commands_of_the_documents(document: str, portal: RunningPortal) -> None:
    blocks = [block for block in blocks_of(ROOT / document) if block.language == "sh" and not block.reason]
    assert blocks
    run(["bash", "-c", RUN_BY_HAND + "".join(block.text for block in blocks)], portal=portal, folder=ROOT)


@pytest.fixture(scope="module")
def broken(portal: RunningPortal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a version that starts and answers, but has no model: neither a registered one nor a stand-in."""
    empty = str(tmp_path_factory.mktemp("empty"))
    with portal.another_web(IRA_MODEL_DIR=empty, IRA_MODELS_DIR=empty) as address:
        yield address


class TestSmoke:
    def test_a_portal_that_works(self, portal: RunningPortal) -> None:
        assert smoke(portal.address, token=portal.tokens["doctor"]) == []

    def test_what_does_not_work_is_named(self, portal: RunningPortal, broken: str) -> None:
        problems = smoke(broken, token=portal.tokens["doctor"])
        assert [problem.split(":")[0] for problem in problems] == [
            "The portal is not well",
            "The model does not answer",
        ]

    def test_nobody_there(self) -> None:
        (problem,) = patient_smoke("http://127.0.0.1:9", within_s=0)
        assert problem.startswith("The portal does not answer: /healthz gave no answer")

    def test_as_a_command(self, portal: RunningPortal, broken: str) -> None:
        def tried(address: str) -> "subprocess.CompletedProcess[str]":
            command = [sys.executable, "-m", "infrastructure.smoke", address, "--within", "0"]
            return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

        assert (tried(portal.address).returncode, tried(broken).returncode) == (0, 1)


@pytest.fixture(scope="module")
def _account() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        for name, value in templates.CREDENTIALS.items():
            patch.setenv(name, value)
        templates.make_stacks()
        yield


class TestDeployment:
    """The real stack in moto's account; a load balancer in small leads to a portal for each colour."""

    @pytest.fixture
    def stack(self, _account: None) -> CloudFormationStack:
        stack = CloudFormationStack(name="radiology-portal", client=boto3.client("cloudformation"))
        stack.update(LiveColour="blue", BlueImage=OLD, GreenImage="", WorkerImage=OLD)
        return stack

    def state(self, stack: CloudFormationStack) -> tuple[str, str, str, str]:
        now = stack.parameters()
        return now["LiveColour"], now["BlueImage"], now["GreenImage"], now["WorkerImage"]

    def test_a_version_that_works_becomes_live_and_the_former_stands_by(
        self, stack: CloudFormationStack, portal: RunningPortal
    ) -> None:
        said: list[str] = []
        with balancer({"blue": portal.address, "green": portal.address}, live=lambda: self.state(stack)[0]) as address:

            def try_out(colour: str) -> list[str]:
                return smoke(address, colour=colour, token=portal.tokens["doctor"])

            deploy(stack, image=NEW, try_out=try_out, say=said.append)
            assert self.state(stack) == ("green", OLD, NEW, NEW)
            roll_back(stack, try_out=try_out, say=said.append)
        assert self.state(stack) == ("blue", OLD, NEW, OLD)
        assert said[-1].startswith("blue is live again")

    def test_a_version_without_a_model_is_taken_down_before_anybody_reaches_it(
        self, stack: CloudFormationStack, portal: RunningPortal, broken: str
    ) -> None:
        reached: list[str] = []
        with balancer({"blue": portal.address, "green": broken}, live=lambda: self.state(stack)[0]) as address:

            def try_out(colour: str) -> list[str]:
                reached.append(colour)
                return smoke(address, colour=colour)

            with pytest.raises(DeployError, match=r"blue is live as before; nobody has seen .* The portal is not well"):
                deploy(stack, image=NEW, try_out=try_out, say=lambda sentence: None)
            assert smoke(address) == []
        assert reached == ["green"]
        assert self.state(stack) == ("blue", OLD, "", OLD)

    def test_a_version_that_breaks_once_it_is_live_is_rolled_back(
        self, stack: CloudFormationStack, portal: RunningPortal, broken: str
    ) -> None:
        portals = {"blue": portal.address, "green": portal.address}
        with balancer(portals, live=lambda: self.state(stack)[0]) as address:

            def try_out(colour: str) -> list[str]:
                problems = smoke(address, colour=colour)
                # Worked while nobody used it; from now on it does not.
                portals["green"] = broken
                return problems

            with pytest.raises(DeployError, match=r"Rolled back: blue is live again\. The portal is not well"):
                deploy(stack, image=NEW, try_out=try_out, say=lambda sentence: None)
            assert smoke(address) == []
        assert self.state(stack) == ("blue", OLD, "", OLD)

    def test_there_is_no_way_back_where_nothing_stands_by(self, stack: CloudFormationStack) -> None:
        with pytest.raises(DeployError, match="green has no image to go back to"):
            roll_back(stack, try_out=lambda colour: [], say=lambda sentence: None)
