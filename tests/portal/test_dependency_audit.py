"""The audit of dependencies tells a hole, tells that it could not look, and never passes silently."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.tools import ROOT

CLEAN = '{"dependencies": [{"name": "django", "version": "5.2", "vulns": []}]}'
HOLE = '{"dependencies": [{"name": "django", "version": "5.2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["5.3"]}]}]}'


def audit(tmp_path: Path, *, answer: str, status: int, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script with something in pip-audit's place that answers like it."""
    stand_in = tmp_path / "pip-audit"
    stand_in.write_text(
        "#!/bin/sh\n"
        'while [ $# -gt 0 ]; do [ "$1" = --output ] && output=$2; shift; done\n'
        f"printf '%s' '{answer}' > \"$output\"\n"
        f"[ {status} = 0 ] || echo 'ConnectionError: no route to host' >&2\n"
        f"exit {status}\n"
    )
    stand_in.chmod(0o755)
    environment = os.environ | {"PIP_AUDIT": str(stand_in)} | environment
    return subprocess.run([ROOT / ".ci/audit"], env=environment, capture_output=True, text=True, check=False)


def test_no_hole_passes_and_says_so(tmp_path: Path) -> None:
    done = audit(tmp_path, answer=CLEAN, status=0)
    assert (done.returncode, done.stdout.strip()) == (0, "No known holes in the pinned requirements.")


def test_a_hole_fails_and_is_named(tmp_path: Path) -> None:
    done = audit(tmp_path, answer=HOLE, status=1)
    assert done.returncode == 1
    assert "django 5.2: PYSEC-1, mended in 5.3" in done.stdout


@pytest.mark.parametrize(("required", "status"), [("", 0), ("1", 2)])
def test_an_index_that_cannot_be_reached_is_told_loudly(tmp_path: Path, required: str, status: int) -> None:
    done = audit(tmp_path, answer="", status=1, REQUIRE_AUDIT=required)
    assert done.returncode == status
    assert "NOT CHECKED" in done.stderr
    assert "No known holes" not in done.stdout
