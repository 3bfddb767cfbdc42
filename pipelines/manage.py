"""Calls `manage.py` as the stages need it: the commands are the one place where the work is done."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import django
from django.core.management import call_command

# Where the stages hand over to each other; dvc.yaml names the same places.
DATA = Path("var/ingest/data")
MANIFEST = Path("var/ingest/manifest.csv")
TRAINED = Path("var/train")


def set_up(*, settings: str = "portal.settings.demo") -> None:
    """Have Django ready, with `settings` unless the environment names others."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", settings)
    django.setup()


def manage(command: str, *arguments: Any) -> None:
    """Run a management command; its errors are sentences and end the stage."""
    set_up()
    call_command(command, *[str(argument) for argument in arguments])
