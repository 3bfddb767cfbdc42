#!/usr/bin/env python
"""Command-line entry point of the portal."""

import os
import sys

from django.core.management import execute_from_command_line


def main() -> None:
    """Run one management command with the development settings unless the environment names others."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings.dev")
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
