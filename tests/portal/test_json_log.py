"""The log for programs: one object a line, with the identifiers of request, person, study and task, and no names."""

import io
import json
import logging
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django_q.models import OrmQ
from django_q.signals import post_execute_in_worker, pre_execute
from django_q.signing import SignedPackage
from gunicorn.config import Config

from portal.logs import NOTED, JsonFormatter
from portal.weblog import AccessLogger
from studies.tasks import analyse_image
from tests.factories import AnalysisFactory, StudyFactory

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What is logged meanwhile, as the JSON log has it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


def parsed(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.django_db
class TestRequestIdentifiers:
    def test_a_sane_identifier_of_the_proxy_is_kept_and_answered(self, client: Client) -> None:
        response = client.get("/accounts/login/", headers={"X-Request-ID": "proxy-2f6c.41_a"})
        assert response["X-Request-ID"] == "proxy-2f6c.41_a"

    @pytest.mark.parametrize("sent", [None, "", "short", "x" * 65, "a b c d e f g", "Quetzalcoatl,Xenophon", "-starts"])
    def test_any_other_is_replaced_by_a_new_one(self, client: Client, sent: str | None) -> None:
        response = client.get("/accounts/login/", headers={} if sent is None else {"X-Request-ID": sent})
        assert str(uuid.UUID(response["X-Request-ID"])) == response["X-Request-ID"]

    def test_the_web_server_is_told_whose_request_it_was_and_about_what(self, client: Client) -> None:
        study = StudyFactory()
        client.force_login(study.created_by)
        response = client.get(reverse("studies:study_detail", args=[study.id]))
        assert response.wsgi_request.META[NOTED] == {
            "request_id": response["X-Request-ID"],
            "user_id": str(study.created_by_id),
            "study_id": str(study.id),
        }

    def test_lines_of_the_request_carry_it(self, client: Client, lines: io.StringIO) -> None:
        response = client.get("/no/such/page/?q=Quetzalcoatl", headers={"X-Request-ID": "of-the-proxy"})
        assert response.status_code in (302, 404)
        client.get(reverse("reports:share_open", args=["s3cret"]), headers={"X-Request-ID": "of-the-proxy"})
        found = [line for line in parsed(lines) if line["logger"] == "django.request"]
        assert found
        assert {line["request_id"] for line in found} == {"of-the-proxy"}
        assert "s3cret" not in lines.getvalue()
        assert "Quetzalcoatl" not in lines.getvalue()


@pytest.mark.django_db(transaction=True)
def test_a_request_s_identifier_reaches_what_the_worker_logs(client: Client, lines: io.StringIO) -> None:
    analysis = AnalysisFactory()
    client.force_login(analysis.requested_by)
    client.post(reverse("studies:analysis_cancel", args=[analysis.id]))
    OrmQ.objects.all().delete()
    address = reverse("studies:analysis_rerun", args=[analysis.id])
    assert client.post(address, headers={"X-Request-ID": "run-it-again"}).status_code == 302
    task = SignedPackage.loads(OrmQ.objects.get().payload)
    assert task["request_id"] == "run-it-again"
    # What a worker of django-q2 does with a message (tests/studies/test_stopping.py has real ones).
    pre_execute.send(sender="django_q", func=analyse_image, task=task)
    analyse_image(*task["args"])
    post_execute_in_worker.send(sender="django_q", func=analyse_image, task=task)
    logging.getLogger("studies.tasks").warning("Afterwards.")
    *_, done, afterwards = [line for line in parsed(lines) if line["logger"] == "studies.tasks"]
    assert done["request_id"] == "run-it-again"
    assert done["task"] == "studies.tasks.analyse_image"
    assert done["object_id"] == task["args"][0]
    assert done["study_id"] == str(analysis.image.study_id)
    assert "request_id" not in afterwards


def test_the_access_log_is_an_object_without_searches_and_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRA_LOG_FORMAT", "json")
    config = Config()
    config.set("accesslog", "-")
    logger = AccessLogger(config)
    stream = io.StringIO()
    for handler in logger.access_log.handlers:
        handler.setStream(stream)  # type: ignore[attr-defined]
    environ = {
        "REQUEST_METHOD": "GET",
        "RAW_URI": "/reports/shared/s3cret/?q=Quetzalcoatl",
        "PATH_INFO": "/reports/shared/s3cret/",
        "QUERY_STRING": "q=Quetzalcoatl",
        NOTED: {"request_id": "of-the-proxy", "user_id": "u", "study_id": "s"},
    }
    answer = SimpleNamespace(status="404 Not Found", sent=1, headers=[])
    logger.access(answer, SimpleNamespace(headers=[]), environ, timedelta(milliseconds=1234))
    line = json.loads(stream.getvalue())
    assert line.pop("time")
    assert line == {
        "level": "info",
        "logger": "gunicorn.access",
        "message": "GET /reports/shared/… 404",
        "method": "GET",
        "path": "/reports/shared/…",
        "status": 404,
        "duration_ms": 1234,
        "request_id": "of-the-proxy",
        "user_id": "u",
        "study_id": "s",
    }


def test_an_exception_is_a_field_of_its_line() -> None:
    try:
        raise ValueError("at /reports/shared/s3cret/")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "It %s.", ("failed",), sys.exc_info())
    line = json.loads(JsonFormatter().format(record))
    assert (line["level"], line["message"]) == ("error", "It failed.")
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: at /reports/shared/…")


def manage(*arguments: str, log_format: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"IRA_LOG_FORMAT": log_format, "IRA_VAR_DIR": str(folder)}
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_the_format_is_chosen_by_a_setting(tmp_path: Path) -> None:
    code = "import logging; logging.getLogger('x').warning('Said.')"
    done = manage("shell", "--no-imports", "-c", code, log_format="json", folder=tmp_path)
    assert json.loads(done.stderr.splitlines()[-1])["message"] == "Said."


def test_a_format_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    done = manage("check", log_format="yaml", folder=tmp_path)
    assert done.returncode != 0
    assert "IRA_LOG_FORMAT is line or json. Please correct it." in done.stderr
