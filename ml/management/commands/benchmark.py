"""``manage.py benchmark``: how fast the serving path is, side by side with Keras, in one run on this machine."""

import json
from argparse import ArgumentParser
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError

from ml.benchmark import run_benchmark
from ml.errors import MlError

LABELS: Final = {
    "keras_predict_ms": "VGG16 224 x 224, Keras predict (ms)",
    "tf_function_ms": "VGG16 224 x 224, tf.function (ms)",
    "forward_ms": "our class network, 224 x 224 (ms)",
    "forward_speedup": "times faster than Keras predict",
    "analyse_ms": "whole path, file bytes to overlay (ms)",
    "cold_start_s": "worker: import and load (s)",
    "worker_rss_mb": "worker: memory (MB)",
    "served_forward_ms": "our class network as it is served (ms)",
    "served_side_px": "… at this side (pixels)",
    "threads": "threads",
    "repeats": "repeats",
}


class Command(BaseCommand):
    help = "Measure forward pass, whole analysis, cold start and memory; Keras beside it where TensorFlow is installed."
    requires_system_checks: list[str] = []
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
        parser.add_argument("--repeats", type=int, default=20, help="how often each is run (default 20)")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["repeats"] < 1:
            raise CommandError("--repeats must be at least 1. Please give a larger number.")
        try:
            benchmark = run_benchmark(repeats=options["repeats"], say=lambda line: self.stderr.write(f"… {line}"))
        except MlError as error:
            raise CommandError(str(error)) from error
        figures = benchmark.to_json()
        if options["json"]:
            self.stdout.write(json.dumps(figures, allow_nan=False))
            return
        for name, label in LABELS.items():
            value = figures[name]
            self.stdout.write(f"{label:<44}{'TensorFlow is not installed' if value is None else value}")
