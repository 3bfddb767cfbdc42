"""Plays the processes of tests/studies/test_model_processes.py; each runs by itself: ``python -m … ACTION FOLDER``."""

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django


def cluster(folder: Path) -> None:
    """Run the real queue with the real model, and note process and version of each answer in ``calls``."""
    from django.core.management import call_command

    from studies import tasks

    analyse = tasks.analyse

    def noting(*args: Any, **kwargs: Any) -> Any:
        result = analyse(*args, **kwargs)
        with (folder / "calls").open("a") as stream:
            stream.write(f"{os.getpid()} {result.model_version}\n")
        return result

    tasks.analyse = noting
    call_command("qcluster")


def play(folder: Path) -> None:
    """Promote, challenge and roll back while the worker runs; print what each analysis was answered by."""
    from django.core.management import call_command

    from studies.models import Analysis, ShadowAnswer
    from tests.factories import AnalysisFactory, DoctorFactory, ImageFactory, StudyFactory
    from tests.model_folders import first_champion, registered

    first_champion(has_networks=True)
    registered("v2", has_networks=True)
    study = StudyFactory(created_by=DoctorFactory())

    def ask(count: int) -> list[Any]:
        made = [AnalysisFactory(image=ImageFactory(study=study, seed=study.images.count())) for _ in range(count)]
        for analysis in made:
            analysis.enqueue()
        return [analysis.id for analysis in made]

    def ended(ids: list[Any]) -> list[tuple[str, str]]:
        rows = Analysis.objects.filter(id__in=ids)
        wait(lambda: rows.filter(finished_at__isnull=False).count() == len(ids))
        return [tuple(row) for row in rows.order_by("queued_at").values_list("state", "model_version")]  # type: ignore[misc]

    shown: dict[str, Any] = {"before": ended(ask(1))}
    during = ask(8)
    wait(lambda: Analysis.objects.filter(id__in=during, finished_at__isnull=False).count() >= 2)
    call_command("promote", "v2", "--reason", "better", stdout=sys.stderr)
    shown["during"] = ended(during)
    shown["after"] = ended(ask(1))
    call_command("challenge", "first", "--share", "1", stdout=sys.stderr)
    shown["beside"] = ended(ask(2))
    shadows = ShadowAnswer.objects.filter(version="first")
    wait(lambda: shadows.filter(state=ShadowAnswer.State.ANSWERED).count() == 2)
    shown["shadows"] = shadows.compare().class_agreement
    call_command("rollback", "--reason", "worse after all", stdout=sys.stderr)
    shown["rolled back"] = ended(ask(1))
    shown["processes"] = len({line.split()[0] for line in (folder / "calls").read_text().splitlines()})
    sys.stdout.write(json.dumps(shown))


def wait(condition: Callable[[], object]) -> None:
    """Return as soon as the condition holds; end with an error after two minutes."""
    end = time.monotonic() + 120
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("Waited two minutes in vain.")
        time.sleep(0.05)


def kills(folder: Path) -> None:
    """Kill processes with SIGKILL in the middle of registering and promoting; print what is left after each."""
    from django.conf import settings
    from django.db import connection

    from ml import model_store, registry
    from ml.models import Deployment, ModelVersion
    from tests.model_folders import first_champion, model_folder, registered

    first_champion("killed-0")
    registered("killed-1")
    source = model_folder(folder / "source", version="killed-2")

    def die(*args: Any, **kwargs: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    def dying_after(function: Callable[..., Any], *, calls: int = 1) -> Callable[..., Any]:
        left = [calls]

        def run(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            left[0] -= 1
            return result if left[0] else die()

        return run

    def register_dying_in_the_copy() -> None:
        model_store._copy = dying_after(model_store._copy, calls=2)
        registry.register(source)

    def register_dying_before_the_rename() -> None:
        model_store._sync_folder = die
        registry.register(source)

    def register_dying_before_the_row() -> None:
        model_store.try_out = die
        registry.register(source)

    def promote_dying_before_the_change() -> None:
        registry._crown = die
        registry.promote("killed-1", by=None)

    def promote_dying_between_old_and_new() -> None:
        registry._crown = lambda row, *, instead_of, deployment: (
            ModelVersion.objects.filter(pk=instead_of.pk).update(state="retired"),
            die(),
        )
        registry.promote("killed-1", by=None)

    def promote_dying_before_the_commit() -> None:
        registry._record = dying_after(registry._record)
        registry.promote("killed-1", by=None)

    def promote_dying_after_the_commit() -> None:
        registry.promote("killed-1", by=None)
        die()

    def promote_and_roll_back_for_ever() -> None:
        while True:
            if registry.named("killed-1").is_champion:
                registry.rollback(by=None)
            else:
                registry.promote("killed-1", by=None)

    def left(process: multiprocessing.process.BaseProcess) -> dict[str, Any]:
        process.join(60)
        champions = list(ModelVersion.objects.filter(state="champion"))
        for row in champions:
            model_store.check(row.folder, sha256=row.sha256)
        in_force = Deployment.objects.in_force()
        found = {
            "exit": process.exitcode,
            "champions": [row.version for row in champions],
            "in force": in_force.version.version if in_force is not None else "",
            "registered": ModelVersion.objects.filter(version="killed-2").exists(),
            "whole": (Path(settings.MODELS_DIR) / "killed-2").exists(),
        }
        connection.close()
        return found

    context = multiprocessing.get_context("fork")
    shown: dict[str, Any] = {}
    for act in (
        register_dying_in_the_copy,
        register_dying_before_the_rename,
        register_dying_before_the_row,
        promote_dying_before_the_change,
        promote_dying_between_old_and_new,
        promote_dying_before_the_commit,
        promote_dying_after_the_commit,
    ):
        connection.close()
        process = context.Process(target=act)
        process.start()
        shown[act.__name__] = left(process)
    for number in range(8):
        process = context.Process(target=promote_and_roll_back_for_ever)
        process.start()
        time.sleep(random.uniform(0.1, 0.6))  # noqa: S311 - a moment that nobody chose
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        shown[f"at some moment, {number}"] = left(process)
    shown["registered afterwards"] = registry.register(source).version
    sys.stdout.write(json.dumps(shown))


if __name__ == "__main__":
    django.setup()
    {"cluster": cluster, "play": play, "kills": kills}[sys.argv[1]](Path(sys.argv[2]))
