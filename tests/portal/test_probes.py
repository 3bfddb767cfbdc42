"""What machines ask: whether the portal lives, and whether a slice that arrives now will be analysed."""

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.utils import timezone
from django_q.models import OrmQ

from ml.runtime import STARTER_DIRECTORY
from portal import readiness
from studies.cluster import HEARTBEAT_KEY, beat
from tests.factories import AnalysisFactory

pytestmark = pytest.mark.django_db

TOKEN = "a-token-of-the-operator"


@pytest.fixture(autouse=True)
def _afresh(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let nothing be known from before, and a worker be there."""
    for name, value in {"_kept": None, "_store_tried_until": 0.0, "_is_migrated": False, "_checked_model": ()}.items():
        monkeypatch.setattr(readiness, name, value)
    settings.READY_TOKEN = TOKEN
    settings.READY_FREE_MB = 0
    cache.clear()
    beat()
    yield
    cache.clear()


def ask(client: Client, path: str = "/readyz", *, token: str = TOKEN, **headers: str) -> Any:
    return client.get(path, headers={"Authorization": f"Bearer {token}"}, **headers)


def problems(response: Any) -> dict[str, str]:
    return {check["name"]: check["problem"] for check in response.json()["checks"] if not check["is_ok"]}


def test_an_installation_in_order_is_ready_and_says_what_was_looked_at(client: Client) -> None:
    response = ask(client)
    assert response.status_code == 200, response.json()
    checks = {check["name"]: check for check in response.json()["checks"]}
    assert set(checks) == {"database", "migrations", "storage", "disk", "queue", "worker", "model"}
    assert checks["queue"]["figures"] == {"waiting": 0, "oldest_waits_s": 0}
    assert checks["model"]["figures"]["version"]
    assert checks["disk"]["figures"]["free_mb"] > 0


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x"])
def test_strangers_learn_one_word(client: Client, token: str) -> None:
    cache.delete(HEARTBEAT_KEY)
    response = ask(client, token=token)
    assert (response.status_code, response.json()) == (503, {"status": "not ready"})


def test_without_a_configured_token_nobody_learns_more(client: Client, settings: Any) -> None:
    settings.READY_TOKEN = ""
    assert ask(client, token="").json() == {"status": "ready"}


def test_a_missing_worker_is_told_but_takes_no_web_process_out(client: Client) -> None:
    cache.set(HEARTBEAT_KEY, timezone.now() - timedelta(minutes=5))
    response = ask(client)
    assert response.status_code == 503
    assert list(problems(response)) == ["worker"]
    assert "300 seconds old" in problems(response)["worker"]
    assert ask(client, "/readyz/web").status_code == 200


def test_a_message_that_waits_too_long_is_told(client: Client) -> None:
    AnalysisFactory().enqueue()
    OrmQ.objects.update(lock=timezone.now() - timedelta(minutes=11))
    assert "has waited for 660 seconds" in problems(ask(client))["queue"]


def test_a_migration_that_is_not_applied_takes_the_web_process_out(client: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'sessions'")
    response = ask(client, "/readyz/web")
    assert response.status_code == 503
    assert "1 migrations are not applied" in problems(response)["migrations"]


def test_a_store_that_cannot_be_written_is_told(client: Client, settings: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings.MEDIA_ROOT = tmp_path / "file"
    assert "cannot be written" in problems(ask(client))["storage"]
    assert not list(tmp_path.rglob("readyz/*"))


def test_the_file_that_tries_the_store_is_deleted_again(client: Client, settings: Any) -> None:
    assert ask(client).status_code == 200
    assert [path for path in Path(settings.MEDIA_ROOT).rglob("*") if path.is_file()] == []


def test_a_full_disk_is_told(client: Client, settings: Any) -> None:
    settings.READY_FREE_MB = 10**9
    assert "MB are free" in problems(ask(client, "/readyz/web"))["disk"]


def test_a_changed_model_file_is_told_although_it_was_fine_before(
    client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(STARTER_DIRECTORY, folder)
    monkeypatch.setenv("IRA_MODEL_DIR", str(folder))
    assert ask(client).status_code == 200
    with (folder / "classifier.tflite").open("ab") as stream:
        stream.write(b"!")
    monkeypatch.setattr(readiness, "_kept", None)
    response = ask(client)
    assert "cannot be loaded (ModelFileError)" in problems(response)["model"]
    assert ask(client, "/readyz/web").status_code == 200


def test_a_database_that_does_not_answer_takes_it_out_and_the_rest_is_not_asked(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise OSError("no route")

    # The test's own connection stands; the seam is what the check asks.
    monkeypatch.setattr(readiness, "connection", SimpleNamespace(cursor=refuse, vendor="x"))
    response = ask(client, "/readyz/web")
    assert response.status_code == 503
    assert problems(response)["database"] == "The check itself failed (OSError); the log says more."
    assert problems(response)["queue"] == "Not checked, because the database does not answer."


def test_the_same_answer_is_given_for_a_few_seconds(client: Client) -> None:
    assert ask(client).status_code == 200
    cache.delete(HEARTBEAT_KEY)
    assert ask(client).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/readyz/web"])
def test_a_load_balancer_asks_by_address_and_without_tls(client: Client, settings: Any, path: str) -> None:
    settings.SECURE_SSL_REDIRECT = True
    response = client.get(path, HTTP_HOST="10.1.2.3:8000")
    assert response.status_code == 200
    assert not response.cookies
    assert client.post(path).status_code == 405
    # Everything else still refuses a name that is not the portal's.
    assert client.get("/", HTTP_HOST="10.1.2.3:8000").status_code == 400
