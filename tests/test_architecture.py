"""What holds the rooms apart: imports, start-up without TensorFlow, migrations that match the models."""

import ast
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import call_command

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ["portal", "accounts", "studies", "reports", "ml", "pipelines"]

PROBE = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "portal.settings.test"
import django
django.setup()
import portal.urls, portal.wsgi
import studies.tasks, ml.inference, ml.runtime
from django.urls import get_resolver
get_resolver().reverse_dict
heavy = {"tensorflow", "keras", "mlflow", "dvc", "sklearn", "matplotlib", "cv2", "pandas", "jax", "torch"}
print(",".join(sorted(heavy & set(sys.modules))))
"""


def test_web_and_worker_load_without_training_libraries() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_import_contracts_hold() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.django_db
def test_migrations_match_the_models() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0, stdout=io.StringIO())


def test_only_training_code_names_tensorflow() -> None:
    serving = [room for room in ROOMS if room not in ("ml", "pipelines")]
    offenders = [
        path.relative_to(ROOT).as_posix()
        for room in serving
        for path in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
        if name.split(".")[0] in {"tensorflow", "keras"}
    ]
    assert offenders == []


def test_queued_task_paths_resolve() -> None:
    """A task is enqueued by its dotted name, which nothing checks until a worker stumbles over it."""
    import pydoc

    text = "\n".join(path.read_text() for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    names = set(re.findall(r"[\"']((?:studies|reports|accounts|portal)\.tasks\.\w+)[\"']", text))
    assert names, "no task is enqueued anywhere"
    assert [name for name in names if not callable(pydoc.locate(name))] == []


def test_grants_are_written_in_permissions_modules_only() -> None:
    pattern = re.compile(r"\b(assign_perm|remove_perm)\b")
    offenders = [
        path.relative_to(ROOT).as_posix()
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if path.name != "permissions.py" and pattern.search(path.read_text())
    ]
    assert offenders == []


def test_no_file_outgrows_its_noun() -> None:
    """A file much beyond 500 lines is split by noun; the limit leaves room for one thing that hangs together."""
    too_long = {
        path.relative_to(ROOT).as_posix(): lines
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if "migrations" not in path.parts and (lines := len(path.read_text().splitlines())) > 650
    }
    assert too_long == {}
