"""The web server as an installation starts it: told to stop, it answers what it has begun and then ends."""

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools import ROOT, free_port, wait_for


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """gunicorn with the settings that it finds by itself, on a free port."""
    port = free_port()
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "portal.settings.test",
        "DATABASE_URL": f"sqlite:///{tmp_path / 'portal.sqlite3'}",
        "IRA_VAR_DIR": str(tmp_path),
        "IRA_WEB_BIND": f"127.0.0.1:{port}",
        "IRA_WEB_PROCESSES": "1",
        "IRA_LOG_FORMAT": "json",
    }
    subprocess.run([sys.executable, "manage.py", "migrate", "sessions", "-v0"], cwd=ROOT, env=environment, check=True)
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "portal.wsgi"], cwd=ROOT, env=environment, stdout=log, stderr=log
    )
    try:
        wait_for(lambda: is_alive(port), within_s=60, what="the web server")
        yield process, port
    finally:
        process.kill()
        process.wait()
        log.close()


def is_alive(port: int) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False


def test_a_request_that_is_on_its_way_is_answered_and_no_new_one_is_taken(
    server: tuple[subprocess.Popen[bytes], int], tmp_path: Path
) -> None:
    process, port = server
    body = b"csrfmiddlewaretoken=" + b"b" * 32 + b"&login=" + b"x" * 500_000
    head = (
        "POST /accounts/login/?q=Quetzalcoatl HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: under-way-0001\r\n"
        f"Cookie: csrftoken={'a' * 32}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(head.encode() + body[:1000])
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: not is_alive(port), within_s=20, what="a closed door")
        connection.sendall(body[1000:])
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"x-request-id: under-way-0001" in answer.lower()
    assert process.wait(timeout=30) == 0
    log = (tmp_path / "log").read_text()
    assert '"path": "/accounts/login/"' in log
    assert '"request_id": "under-way-0001"' in log
    assert "Quetzalcoatl" not in log
