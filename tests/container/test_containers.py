"""The main job in containers: the real Dockerfile is built and runs as compose.yaml says, without rights."""

import functools
import json
import shutil
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from tests.container.engine import LIMITS, Engine, service_of, values_of_env
from tests.dicom_files import GREY, dicom
from tests.tools import ROOT, free_port

sys.path.insert(0, str(ROOT / "docs/examples"))
from portal_client import Portal as Client

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

LARGEST_IMAGE_BYTES = 600_000_000
NAMES = ("Quetzalcoatl", "Xenophon", "unmistakable", "ZZ-990077")
# An approved doctor with a second step, as production demands, and a token with every scope.
MAKE_A_DOCTOR = """
from django.utils import timezone
from allauth.account.models import EmailAddress
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from accounts.models import ApiToken, Hospital, Role, Scope, User
hospital = Hospital.objects.create(name="General", department="Radiology", reads_first=True)
doctor = User.objects.create_user(email="ada@general.example", password="k7-quiet-Harbour-41", role=Role.DOCTOR,
    given_name="Ada", family_name="Example", licence_number="L-1", hospital=hospital, approved_at=timezone.now())
EmailAddress.objects.create(user=doctor, email=doctor.email, verified=True, primary=True)
TOTP.activate(doctor, generate_totp_secret())
print("TOKEN=" + ApiToken.issue(doctor, name="container test", scopes=Scope.values, days=1)[1])
"""


@dataclass(frozen=True, kw_only=True)
class Installation:
    """What runs, and how it is reached."""

    engine: Engine
    address: str
    values: dict[str, str]
    doctor: Client

    def get(self, path: str, **headers: str) -> tuple[int, Any]:
        """Ask the web container itself; return status and JSON."""
        request = urllib.request.Request(self.address + path, headers={"X-Forwarded-Proto": "https"} | headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


@pytest.fixture(scope="module")
def images(engine: Engine) -> dict[str, str]:
    """Build everything that serves; the three share all layers."""
    engine.make_base_images()
    return {target: engine.build(target) for target in ("worker", "scheduler", "web")}


@pytest.fixture(scope="module")
def installation(engine: Engine, images: dict[str, str]) -> Installation:
    """Start database, web, worker and scheduler as compose.yaml says, on ports of their own."""
    ports = {"web": free_port(), "database": free_port()}
    host = f"127.0.0.1:{ports['web']}"
    values = values_of_env()
    service = functools.partial(service_of, values=values, ports=ports)
    engine.start_database(service("database"), name="ira-database")
    engine.run_once(service("migrate"), image=images["web"])
    for name in ("web", "worker", "scheduler"):
        engine.start(service(name), name=f"ira-{name}", image=images[name])
    for name in ("web", "worker", "scheduler"):
        engine.wait_healthy(f"ira-{name}", within_s=120)
    said = engine.execute("ira-web", "python", "manage.py", "shell", "--no-imports", "-c", MAKE_A_DOCTOR).stdout
    token = said.rpartition("TOKEN=")[2].strip()
    doctor = Client(f"http://{host}", token)
    # The proxy's word that the browser speaks TLS; addresses in answers are https, and no proxy stands here.
    doctor.session.headers["X-Forwarded-Proto"] = "https"
    ask = doctor.ask
    doctor.ask = lambda method, path, **options: ask(  # type: ignore[method-assign]
        method, path.replace(f"https://{host}", f"http://{host}"), **options
    )
    return Installation(engine=engine, address=f"http://{host}", values=values, doctor=doctor)


def test_an_image_that_serves_is_small_and_holds_no_tools(engine: Engine, images: dict[str, str]) -> None:
    for image in images.values():
        found = engine.inspect(image)
        assert found["Size"] < LARGEST_IMAGE_BYTES
        assert found["User"] == "portal"
        assert found["Healthcheck"]["Test"][0] == "CMD"
    look = (
        "ls /venv/lib/python3.11/site-packages; for tool in cc gcc ld make git pip; do command -v $tool || true; done"
    )
    said = engine.podman(
        "run", "--rm", "--network", "none", *LIMITS, images["web"], "sh", "-c", look
    ).stdout.splitlines()
    # The base image may bring a pip of its own; ours is gone.
    unwanted = {
        "tensorflow",
        "keras",
        "mlflow",
        "dvc",
        "pip",
        "setuptools",
        "/usr/bin/gcc",
        "/usr/bin/cc",
        "/venv/bin/pip",
    }
    assert unwanted & set(said) == set()
    assert "ai_edge_litert" in said
    assert not [layer for layer in engine.layers(images["web"]) if "production.txt" in layer.instruction]


@pytest.mark.parametrize("container", ["ira-web", "ira-worker", "ira-scheduler"])
def test_a_container_runs_without_rights_on_a_read_only_file_system(installation: Installation, container: str) -> None:
    status = installation.engine.execute(container, "cat", "/proc/1/status").stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == ["10001"] * 4
    assert (fields["CapEff"], fields["CapBnd"], fields["NoNewPrivs"]) == ("0" * 16, "0" * 16, "1")
    for place in ("/app/x", "/venv/x", "/etc/x", "/x"):
        refused = installation.engine.execute(container, "python", "-c", f"open({place!r}, 'w')", check=False)
        assert "Read-only file system" in refused.stderr or "Permission denied" in refused.stderr
    assert installation.engine.is_healthy(container)


def test_the_installation_is_ready_and_tells_only_its_operator_why(installation: Installation) -> None:
    token = installation.values["IRA_READY_TOKEN"]
    status, told = installation.get("/readyz", Authorization=f"Bearer {token}")
    assert status == 200, told
    assert {check["name"] for check in told["checks"]} >= {"database", "worker", "queue", "model"}
    assert installation.get("/readyz") == (200, {"status": "ready"})


def test_the_main_job_through_the_api(installation: Installation, tmp_path: Path) -> None:
    doctor = installation.doctor
    slices = []
    for number, syntax in enumerate(["", JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, RLELossless]):
        path = tmp_path / f"unmistakable-Quetzalcoatl-{number}.dcm"
        path.write_bytes(dicom(pixels=GREY.astype(np.uint16) * 8 + 16 * number, compress=str(syntax)))
        slices.append(path)
    picture = tmp_path / "slice.png"
    shutil.copy(next((ROOT / "fixtures").glob("*.png")), picture)
    person = {"record_number": "ZZ-990077", "family_name": "Quetzalcoatl", "given_name": "Xenophon"}
    study = doctor.upload([picture, *slices], study_date="2026-03-09", birth_date="1961-04-12", **person)
    doctor.post(f"studies/{study['id']}/first-impression/", {"diagnosis": "unsure", "suspicion": 3})
    study = doctor.wait(study, within_s=120)
    assert {part["analysis"]["state"] for part in study["slices"]} == {"succeeded"}
    assert len(study["slices"]) == 6
    report = doctor.post(f"studies/{study['id']}/report/", {})
    report = doctor.sign(report)
    doctor.post(f"reports/{report['id']}/release/")
    etag = doctor.save(report["pdf_url"], to=tmp_path / "report.pdf")
    assert etag
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF-")
    assert doctor.classify(picture)["model_version"]
    # At rest everything is encrypted with the key of .env.
    stored = "from pathlib import Path; files = [f for f in Path('/data/media').rglob('*') if f.is_file()]; "
    look = stored + "print(len(files), {f.read_bytes()[:8] for f in files})"
    said = installation.engine.execute("ira-worker", "python", "-c", look).stdout
    assert int(said.split()[0]) > 10
    assert said.strip().endswith(str({b"\x00IRA-ENC"}))


def test_the_log_is_json_with_the_same_request_in_web_and_worker_and_no_names(installation: Installation) -> None:
    upload = installation.doctor
    upload.session.headers["X-Request-ID"] = "from-the-proxy-0001"
    row = next(iter(upload.rows("studies/")))
    study = upload.get(f"studies/{row['id']}/")
    upload.post(f"slices/{study['slices'][0]['id']}/analyses/")
    del upload.session.headers["X-Request-ID"]
    upload.wait(study, within_s=60)
    lines = {name: installation.engine.logs(f"ira-{name}") for name in ("web", "worker", "scheduler")}
    for name in ("web", "worker"):
        objects = [json.loads(line) for line in lines[name].splitlines() if line.startswith("{")]
        assert len(objects) > 3
        assert "from-the-proxy-0001" in {line.get("request_id") for line in objects}
    told = "".join(lines.values()).lower()
    assert [name for name in NAMES if name.lower() in told] == []
    secrets = [installation.values[name] for name in ("DJANGO_SECRET_KEY", "IRA_AUDIT_KEY", "POSTGRES_PASSWORD")]
    assert [secret for secret in secrets if secret.lower() in told] == []


@pytest.mark.parametrize("container", ["ira-scheduler", "ira-worker", "ira-web"])
def test_a_container_that_is_stopped_ends_by_itself_within_its_grace(
    installation: Installation, container: str
) -> None:
    status, took_s = installation.engine.stop(container, within_s=40)
    assert status == 0, installation.engine.logs(container)[-2000:]
    # gunicorn keeps connections that a client holds open until its grace of 30 s is over.
    assert took_s < 40
