"""container/Caddyfile in a real Caddy: what reaches the web processes behind it, and what does not."""

import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from tests.tools import ROOT, free_port, skip_or_fail, wait_for

CADDYFILE = ROOT / "container/Caddyfile"
UP_WITHIN_S = 60
# health_interval and health_timeout of the file, and a little more.
NOTICED_WITHIN_S = 20
CHUNK = bytes(1024 * 1024)


class Web:
    """A stand-in for a web process: it is ready or not, and keeps what reached it."""

    def __init__(self) -> None:
        self.readiness = 200
        self.times_asked = 0
        self.seen: list[dict[str, Any]] = []

    @contextmanager
    def running(self) -> Iterator[str]:
        """Answer on a free port; yield ``host:port``."""
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.path == "/readyz/web":
                    web.times_asked += 1
                    self.answer(web.readiness)
                    return
                request = {"path": self.path, "headers": dict(self.headers.items()), "bytes": 0}
                assert len(self.headers.items()) == len(request["headers"]), "a header came twice"
                web.seen.append(request)
                left = int(self.headers.get("Content-Length", "0"))
                while left and (read := self.rfile.read(min(left, len(CHUNK)))):
                    left -= len(read)
                    request["bytes"] += len(read)
                if not left:
                    self.answer(200)

            do_POST = do_GET

            def answer(self, status: int) -> None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Keep the tests' output readable."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            server.server_close()


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """A Caddy that runs; its certificates are of an authority of its own."""

    folder: Path
    http_port: int
    https_port: int

    @property
    def log(self) -> str:
        """All that it has said."""
        return (self.folder / "log").read_text()

    def tls(self) -> http.client.HTTPSConnection:
        """Return a connection that trusts that authority and nobody else."""
        trust = ssl.create_default_context(cafile=str(self.folder / "caddy/pki/authorities/local/root.crt"))
        return http.client.HTTPSConnection("localhost", self.https_port, timeout=60, context=trust)

    def get(self, path: str, **headers: str) -> int:
        """Ask by TLS; return the status."""
        connection = self.tls()
        connection.request("GET", path, headers={name.replace("__", "-"): value for name, value in headers.items()})
        status = connection.getresponse().status
        connection.close()
        return status


def caddy() -> str:
    return shutil.which("caddy") or skip_or_fail("no Caddy is installed (apt-get install caddy)")


@contextmanager
def running_proxy(folder: Path, *webs: str) -> Iterator[Proxy]:
    """Run Caddy in front of these."""
    proxy = Proxy(folder=folder, http_port=free_port(), https_port=free_port())
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "PORTAL_HOST": "localhost",
        "PORTAL_TLS": "tls internal\nbind 127.0.0.1",
        "PORTAL_HTTP_PORT": str(proxy.http_port),
        "PORTAL_HTTPS_PORT": str(proxy.https_port),
        "PORTAL_WEB": " ".join(webs),
    }
    command = [caddy(), "run", "--config", str(CADDYFILE), "--adapter", "caddyfile"]

    def is_up() -> bool:
        try:
            return proxy.get("/is-it-up") > 0
        except OSError:  # no certificate yet, or nobody who listens
            return False

    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process,
    ):
        try:
            wait_for(is_up, within_s=UP_WITHIN_S, what=lambda: proxy.log)
            yield proxy
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def web() -> Web:
    return Web()


@pytest.fixture(scope="module")
def proxy(web: Web, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """One proxy with one web process that is ready."""
    with web.running() as address, running_proxy(tmp_path_factory.mktemp("proxy"), address) as running:
        wait_for(lambda: running.get("/ready") == 200, within_s=NOTICED_WITHIN_S, what=lambda: running.log)
        yield running


def test_what_compose_gives_makes_a_proxy_on_the_usual_ports_in_front_of_the_service_web() -> None:
    command = [caddy(), "adapt", "--config", str(CADDYFILE), "--adapter", "caddyfile"]
    given = {"PATH": os.environ["PATH"], "PORTAL_HOST": "portal.example.org", "PORTAL_TLS": ""}
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)["apps"]["http"]
    assert (made["http_port"], made["https_port"]) == (80, 443)
    assert [one["listen"] for one in made["servers"].values()] == [[":443"]]
    assert re.findall(r'"dial":\s*"([^"]+)"', done.stdout) == ["web:8000"]


def test_plain_http_is_led_to_https_and_does_not_reach_the_portal(proxy: Proxy, web: Web) -> None:
    before = len(web.seen)
    connection = http.client.HTTPConnection("localhost", proxy.http_port, timeout=10)
    connection.request("GET", "/studies/?page=2", headers={"X-Forwarded-Proto": "https"})
    answer = connection.getresponse()
    connection.close()
    assert answer.status == 308
    # Published as 443, whatever port it has here.
    assert answer.headers["Location"] == "https://localhost/studies/?page=2"
    assert len(web.seen) == before


def test_a_client_forges_neither_its_address_nor_the_scheme_nor_the_host(proxy: Proxy, web: Web) -> None:
    forged = {"X__Forwarded__For": "6.6.6.6", "X__Forwarded__Proto": "http", "X__Forwarded__Host": "evil.example"}
    assert proxy.get("/forged", **forged) == 200
    headers = web.seen[-1]["headers"]
    assert headers["X-Forwarded-For"] == "127.0.0.1"
    assert headers["X-Forwarded-Proto"] == "https"
    assert headers["X-Forwarded-Host"] == headers["Host"] == f"localhost:{proxy.https_port}"
    assert "6.6.6.6" not in str(headers)


def test_the_proxy_gives_each_request_its_number_and_believes_no_client(proxy: Proxy, web: Web) -> None:
    theirs = str(uuid.uuid4())
    for _ in range(2):
        assert proxy.get("/numbered", X__Request__ID=theirs) == 200
    first, second = (uuid.UUID(one["headers"]["X-Request-Id"]) for one in web.seen[-2:])
    assert len({first, second, uuid.UUID(theirs)}) == 3


def test_an_upload_of_the_size_that_the_portal_accepts_is_let_through_and_one_beyond_is_refused_before_it_is_sent(
    proxy: Proxy, web: Web
) -> None:
    for length, is_let_through in ((settings.IMPORT_MAX_BYTES, True), (1_099_999_999, True), (1_100_000_000, False)):
        before = len(web.seen)
        connection = proxy.tls()
        connection.putrequest("POST", f"/upload/{length}")
        connection.putheader("Content-Length", str(length))
        connection.endheaders()
        if is_let_through:
            connection.send(CHUNK)
            wait_for(
                lambda before=before: len(web.seen) > before and web.seen[-1]["bytes"] == len(CHUNK),  # type: ignore[misc]
                within_s=20,
                what=lambda: proxy.log,
            )
        else:
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (413, b"The request is too large. Please send less at a time.\n")
            assert len(web.seen) == before
        connection.close()


@pytest.mark.acceptance
def test_the_largest_upload_arrives_whole(proxy: Proxy, web: Web) -> None:
    connection = proxy.tls()
    connection.putrequest("POST", "/whole")
    connection.putheader("Content-Length", str(settings.IMPORT_MAX_BYTES))
    connection.endheaders()
    for _ in range(settings.IMPORT_MAX_BYTES // len(CHUNK)):
        connection.send(CHUNK)
    assert connection.getresponse().status == 200
    connection.close()
    assert web.seen[-1]["bytes"] == settings.IMPORT_MAX_BYTES


@pytest.mark.slow
def test_nobody_is_sent_to_a_web_process_that_is_not_ready_and_the_log_tells_no_address(tmp_path: Path) -> None:
    first, second = Web(), Web()
    second.readiness = 503
    with first.running() as one, second.running() as another, running_proxy(tmp_path, one, another) as proxy:

        def is_answered(status: int) -> bool:
            return {proxy.get("/settling") for _ in range(8)} == {status}

        def within_time(is_so: Callable[[], bool]) -> None:
            wait_for(is_so, within_s=NOTICED_WITHIN_S, what=lambda: proxy.log)

        within_time(lambda: second.times_asked > 0 and first.times_asked > 0 and is_answered(200))
        first.seen.clear()
        second.seen.clear()
        assert {proxy.get("/page") for _ in range(12)} == {200}
        assert (len(first.seen), len(second.seen)) == (12, 0)

        first.readiness = 503
        within_time(lambda: is_answered(503))
        first.seen.clear()
        assert proxy.get("/shared/secret-of-a-link/?q=Mustermann", User__Agent="their browser") == 503
        assert first.seen == second.seen == []
        assert "no upstreams available" in proxy.log
        assert not re.search("secret-of-a-link|Mustermann|their browser", proxy.log)

        second.readiness = 200
        within_time(lambda: is_answered(200))
        assert first.seen == []
        assert second.seen
