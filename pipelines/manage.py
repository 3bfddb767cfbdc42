"""Calls `manage.py` as the stages need it: the commands are the one place where the work is done."""

from __future__ import annotations

import os
from typing import Any

import django
from django.core.management import call_command


def manage(command: str, *arguments: Any) -> None:
    """Run a management command; its errors are sentences and end the stage."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings.demo")
    django.setup()
    call_command(command, *[str(argument) for argument in arguments])
