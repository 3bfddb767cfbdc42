"""The trainer's image: the server of experiments, and a training that is asked for in the portal, in containers."""

import functools
import json
import shutil
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.container.engine import Engine, service_of, values_of_env
from tests.sets import draw_all_layouts
from tests.tools import ROOT, free_port, wait_for

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

ASK = """
from ml.models import TrainingRun
print("RUN=" + str(TrainingRun.objects.ask(by=None, options={}).id))
"""
TELL = """
import json
from ml.models import ModelVersion, TrainingRun
run = TrainingRun.objects.get()
told = {"state": run.state, "error": run.error, "made": run.model_version, "progress": run.progress}
print("TOLD=" + json.dumps(told | {"versions": dict(ModelVersion.objects.values_list("version", "state"))}))
"""


def ask_mlflow(port: int, path: str, **body: Any) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/2.0/mlflow/{path}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=4):
            return True
    except OSError:
        return False


def test_a_training_asked_for_in_the_portal_is_worked_off_and_stands_in_mlflow(engine: Engine, tmp_path: Path) -> None:
    engine.make_base_images()
    image = engine.build("trainer")
    sets = tmp_path / "sets"
    draw_all_layouts(sets, nodule_patients=12, pictures_a_class=3)
    shutil.copy(ROOT / "params.quick.yaml", sets)
    tmp_path.chmod(0o755)
    ports = {"web": free_port(), "database": free_port(), "mlflow": free_port()}
    values = values_of_env() | {"DATASETS": str(sets), "IRA_TRAINING_PARAMS": "/datasets/params.quick.yaml"}
    service = functools.partial(service_of, values=values, ports=ports)
    engine.start_database(service("database"), name="ira-training-database")
    # The image has all that serves as well: what the web image does there, it does too.
    engine.run_once(service("migrate"), image=image)
    engine.start(service("mlflow"), name="ira-mlflow", image=image)
    wait_for(lambda: answers(ports["mlflow"]), within_s=240, what=lambda: engine.logs("ira-mlflow"), every_s=1)
    trainer = engine.start(service("trainer"), name="ira-trainer", image=image)

    def shell(code: str) -> str:
        command = ("python", "manage.py", "shell", "--no-imports", "-c", code)
        return engine.execute(trainer, *command).stdout.rpartition("=")[2]

    run_id = shell(ASK).strip()
    end = time.monotonic() + 1200
    told: dict[str, Any] = {"state": "queued"}
    while told["state"] in ("queued", "running"):
        assert time.monotonic() < end, (told, engine.logs(trainer))
        time.sleep(5)
        told = json.loads(shell(TELL))
    assert told["state"] == "finished", (told, engine.logs(trainer))
    assert told["versions"][told["made"]] == "registered", "it answers nobody until somebody promotes it"
    assert sorted(told["versions"].values()) == ["champion", "registered"]

    experiments = ask_mlflow(ports["mlflow"], "experiments/search", max_results=10)["experiments"]
    ids = [one["experiment_id"] for one in experiments]
    runs = ask_mlflow(ports["mlflow"], "runs/search", experiment_ids=ids)["runs"]
    assert [one["info"]["status"] for one in runs] == ["FINISHED"]
    assert {one["key"] for one in runs[0]["data"]["metrics"]} >= {"lidc_dice", "official_test_accuracy"}
    said = engine.execute("ira-mlflow", "sh", "-c", "find /data/artifacts -type f | wc -l").stdout
    assert int(said) > 3, "the packaged model and the figures lie with the server"
    assert run_id in engine.logs(trainer)

    status, took_s = engine.stop(trainer, within_s=40)
    assert (status, took_s < 20) == (0, True), engine.logs(trainer)[-2000:]
