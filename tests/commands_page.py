"""Writes docs/commands.md from the commands themselves: ``python -m tests.commands_page``. A test compares both."""

from argparse import Action
from pathlib import Path

import django
from django.core.management import find_commands, load_command_class
from django.core.management.base import BaseCommand
from django.core.management.commands import migrate

from tests.tools import ROOT

PAGE = ROOT / "docs/commands.md"
APPS = {
    "portal": "The portal as a whole",
    "accounts": "People and the log of accesses",
    "studies": "Studies and the queue",
    "reports": "Reports",
    "ml": "The model",
}
HEAD = """# Commands

Every command of ours, as it describes itself (`python manage.py NAME --help`); those of Django, `createsuperuser` and
`collectstatic` among them, come besides. Where a command belongs: [operations](operations.md), [data](data.md).
This page is written by `python -m tests.commands_page`.
"""


def page() -> str:
    """Return what docs/commands.md has to be."""
    parts = [HEAD]
    for app, title in APPS.items():
        parts.append(f"\n## {title}\n")
        for name in sorted(find_commands(str(ROOT / app / "management"))):
            parts.append(_described(name, load_command_class(app, name)))
    return "".join(parts)


def _described(name: str, command: BaseCommand) -> str:
    text = f"\n### `{name}`\n\n{' '.join((command.help or type(command).__doc__ or '').split())}\n"
    known = set(_options(migrate.Command() if isinstance(command, migrate.Command) else BaseCommand()))
    rows = [row for option, row in _options(command).items() if option not in known]
    if rows:
        text += "\n| option | meaning |\n|---|---|\n" + "".join(rows)
    return text


def _options(command: BaseCommand) -> dict[str, str]:
    parser = command.create_parser("manage.py", "command")
    return {_name(action): f"| {_name(action)} | {_meaning(action)} |\n" for action in parser._actions}


def _name(action: Action) -> str:
    if not action.option_strings:
        return f"`{action.metavar or action.dest.upper()}`"
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    return f"`{action.option_strings[-1]}{value}`"


def _meaning(action: Action) -> str:
    choices = f" One of {', '.join(map(str, action.choices))}." if action.choices else ""
    return (" ".join((action.help or "").replace("|", "/").split()) + choices).replace(str(ROOT), ".").strip()


if __name__ == "__main__":
    django.setup()
    Path(PAGE).write_text(page())
