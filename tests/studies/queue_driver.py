"""Plays the portal's processes for tests/studies/test_queue.py; each runs by itself: ``python -m … ACTION FOLDER``.

``FOLDER`` is where the processes leave notes for the test: ``calls`` holds one line for each call of the model,
"process id, SHA-256 of the slice".
"""

import hashlib
import json
import multiprocessing
import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import django


def seed(folder: Path) -> None:
    """Make two queued analyses with messages and one whose message got lost; print their ids and slices as JSON."""
    from studies.models import Analysis
    from tests.factories import AnalysisFactory, DoctorFactory, ImageFactory, StudyFactory

    doctor = DoctorFactory()
    analyses = [
        AnalysisFactory(image=ImageFactory(study=StudyFactory(created_by=doctor), seed=seed)) for seed in range(3)
    ]
    for analysis in analyses[:2]:
        analysis.enqueue()
    long_ago = analyses[2].queued_at - timedelta(minutes=1)
    Analysis.objects.filter(id=analyses[2].id).update(queued_at=long_ago)
    sys.stdout.write(json.dumps({analysis.image.sha256: analysis.id.hex for analysis in analyses}))


def cluster(folder: Path) -> None:
    """Run the real queue with a model that hangs on its first two calls and answers afterwards."""
    from django.core.management import call_command

    from ml.inference import AnalysisResult
    from studies import tasks
    from studies.pictures import draw_pictures
    from tests.factories import answer, slice_png

    def analyse(content: bytes, **kwargs: object) -> AnalysisResult:
        calls = folder / "calls"
        with calls.open("a") as stream:
            stream.write(f"{multiprocessing.current_process().pid} {hashlib.sha256(content).hexdigest()}\n")
        if len(calls.read_text().splitlines()) <= 2:
            time.sleep(120)
        return answer()

    # Whatever is loaded and opened for the first time is so before the workers are forked: the time-out is short.
    draw_pictures(slice_png(), result=answer())
    tasks.analyse = analyse
    call_command("qcluster")


def slow(folder: Path) -> None:
    """Run the real queue with a model that takes as many seconds as the environment says."""
    from django.core.management import call_command

    from ml.inference import AnalysisResult
    from studies import tasks
    from tests.factories import answer

    def analyse(content: bytes, **kwargs: object) -> AnalysisResult:
        with (folder / "slow-calls").open("a") as stream:
            stream.write(f"{hashlib.sha256(content).hexdigest()}\n")
        time.sleep(float(os.environ["IRA_TEST_MODEL_SECONDS"]))
        return answer()

    tasks.analyse = analyse
    call_command("qcluster")


def pester(folder: Path) -> None:
    """Enqueue the sweeper every half second until nothing is left to do."""
    from django_q.tasks import async_task

    from studies.models import Analysis

    for _ in range(240):
        if not Analysis.objects.active().exists():
            return
        async_task("studies.tasks.sweep")
        time.sleep(0.5)


def race(folder: Path) -> None:
    """Let eight processes claim one analysis at the same moment; print how many of them got it."""
    from django.db import connection

    from studies.models import Analysis
    from tests.factories import AnalysisFactory, DoctorFactory, HospitalFactory

    doctor = DoctorFactory(email="race@example.org", hospital=HospitalFactory(name="Race hospital"))
    analysis_id = AnalysisFactory(image__study__created_by=doctor).id
    connection.close()
    context = multiprocessing.get_context("fork")
    start, won = context.Barrier(8), context.Value("i", 0)

    def claim() -> None:
        connection.ensure_connection()
        start.wait()
        if Analysis.objects.claim(analysis_id) is not None:
            with won.get_lock():
                won.value += 1

    processes = [context.Process(target=claim) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    failed = sum(process.exitcode != 0 for process in processes)
    sys.stdout.write(json.dumps({"won": won.value, "failed": failed}))


if __name__ == "__main__":
    django.setup()
    actions = {"seed": seed, "cluster": cluster, "slow": slow, "pester": pester, "race": race}
    actions[sys.argv[1]](Path(sys.argv[2]))
