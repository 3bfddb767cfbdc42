"""``manage.py models``: the registered versions with their figures, and the first one put in place."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ml import model_store, registry
from ml.errors import MlError, ModelFileError
from ml.gate import REQUIRED
from ml.models import Deployment, ModelVersion

# How the columns of the table are headed.
SHORT = {
    "test_unseen_accuracy": "accuracy",
    "test_unseen_macro_f1": "macro F1",
    "malignancy_auc": "malig. AUC",
    "lidc_dice_ge30px": "nodule Dice",
    "slice_dice": "slice Dice",
    "false_positives_per_normal_slice": "false pos.",
}


class Command(BaseCommand):
    help = "List the versions of the model with their leak-free figures, and which of them answers."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print everything as JSON, all figures included")
        parser.add_argument("--history", action="store_true", help="list who changed the model in use, when and why")
        parser.add_argument(
            "--check", action="store_true", help="compare every folder with what was registered; status 1 for a damage"
        )
        parser.add_argument(
            "--ensure-starter",
            action="store_true",
            help="register the model of IRA_MODEL_DIR, or the starter model, and let it answer where none does yet",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["ensure_starter"]:
            self._ensure_starter(is_quiet=options["verbosity"] == 0)
            return
        rows = list(ModelVersion.objects.select_related("registered_by"))
        damages = {row.version: _damage(row) for row in rows} if options["check"] else {}
        if options["json"]:
            self.stdout.write(json.dumps(_as_json(rows, damages=damages), indent=1, ensure_ascii=False))
        elif options["history"]:
            self._print_history()
        else:
            self._print_table(rows, damages=damages)
        if damaged := [version for version, damage in damages.items() if damage]:
            raise CommandError(f"Damaged: {', '.join(damaged)}.")

    def _ensure_starter(self, *, is_quiet: bool) -> None:
        try:
            present = registry.ensure_champion()
        except MlError as error:
            found = registry.champion()
            if found is None:
                raise CommandError(str(error)) from error
            # Somebody's newer or broken folder must not keep a portal from starting that has a model.
            self.stderr.write(f"The model folder in place was not registered: {error}")
            present = found
        if not is_quiet:
            self.stdout.write(f"The model {present.version} answers.")

    def _print_table(self, rows: list[ModelVersion], *, damages: dict[str, str]) -> None:
        if not rows:
            self.stdout.write(
                "No version is registered; the model of IRA_MODEL_DIR, or the starter model, answers. "
                "Register it with: manage.py models --ensure-starter"
            )
            return
        heads = ["version", "state", *(SHORT[name] for name in REQUIRED), "registered", "by"]
        lines = [heads]
        for row in rows:
            state = f"{row.state} {row.challenge_share:.0%}" if row.challenge_share is not None else row.state
            figures = [_number(row.figure(name)) for name in REQUIRED]
            by = str(row.registered_by) if row.registered_by is not None else "-"
            lines.append([row.version, state, *figures, f"{row.registered_at:%Y-%m-%d %H:%M}", by])
        widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
        for line in lines:
            self.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        for damage in filter(None, damages.values()):
            self.stdout.write(damage)

    def _print_history(self) -> None:
        for row in Deployment.objects.select_related("version", "replaced", "by"):
            text = f"{row.at:%Y-%m-%d %H:%M:%S}  {row.get_kind_display()} {row.version.version}"
            if row.replaced is not None:
                text += f" instead of {row.replaced.version}"
            if row.challenge_share is not None:
                text += f" for {row.challenge_share:.0%} of the analyses"
            text += f", by {row.who}"
            if row.is_forced:
                text += ", forced"
            self.stdout.write(f"{text}: {row.reason}" if row.reason else text)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _damage(row: ModelVersion) -> str:
    try:
        model_store.check(row.folder, sha256=row.sha256)
    except ModelFileError as error:
        return str(error)
    return ""


def _as_json(rows: list[ModelVersion], *, damages: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "version": row.version,
            "state": row.state,
            "challenge_share": row.challenge_share,
            "registered_at": row.registered_at.isoformat(),
            "trained_at": row.trained_at.isoformat() if row.trained_at is not None else None,
            "data_fingerprint": row.data_fingerprint,
            "sha256": row.sha256,
            "folder": str(row.folder),
            "note": row.note,
            "figures": row.figures,
            **({"damage": damages[row.version]} if row.version in damages else {}),
        }
        for row in rows
    ]
