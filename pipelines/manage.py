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


def manage(command: str, *arguments: Any) -> None:
    """Run a management command; its errors are sentences and end the stage."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings.demo")
    django.setup()
    call_command(command, *[str(argument) for argument in arguments])
