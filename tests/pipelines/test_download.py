"""The download against a local server that fails first, and against kagglehub's own errors."""

import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import requests

from ml.errors import MissingDependencyError
from pipelines.ingest.download import Retries, download, pause_before
from pipelines.ingest.errors import DownloadError
from pipelines.ingest.stage import ingest


@pytest.fixture
def server():
    """A server that gives the answers in `answers` one after the other: a status, or bytes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server.asked.append(self.path)
            answer = server.answers.pop(0)
            if answer is None:
                self.connection.close()
                return
            content = answer if isinstance(answer, bytes) else b""
            self.send_response(200 if isinstance(answer, bytes) else answer)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.answers, server.asked = [], []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def fetch(server, tmp_path):
    """Fetches an archive as kagglehub does: by requests, with its errors."""

    def get(handle: str) -> str:
        response = requests.get(f"http://127.0.0.1:{server.server_port}/{handle}", timeout=5)
        response.raise_for_status()
        (tmp_path / "fetched.zip").write_bytes(response.content)
        return str(tmp_path / "fetched.zip")

    return get


def test_it_tries_again_with_growing_pauses_until_the_server_answers(server, fetch, class_archive, tmp_path):
    server.answers += [503, None, 429, class_archive.read_bytes()]
    pauses, lines = [], []
    archive = download("o/n", fetch=fetch, sleep=pauses.append, report=lines.append)
    assert len(server.asked) == 4
    assert len(pauses) == len(lines) == 3
    for number, pause in enumerate(pauses):
        assert 1.0 * 2**number <= pause <= 2.0 * 2**number
    assert "Attempt 1 of 6" in lines[0]
    assert len(ingest(archive, out=tmp_path / "out", cache=tmp_path / "cache").pictures) == 7


@pytest.mark.parametrize(("status", "reason"), [(401, "credentials"), (403, "terms"), (404, "knows no set")])
def test_an_answer_that_will_not_change_is_not_asked_for_again(server, fetch, status, reason):
    server.answers += [status]
    with pytest.raises(DownloadError, match=reason):
        download("o/n", fetch=fetch, sleep=lambda pause: pytest.fail("It waited."))
    assert len(server.asked) == 1


def test_it_gives_up_in_a_sentence(server, fetch):
    server.answers += [503] * 3
    with pytest.raises(DownloadError, match=r"3 attempts.*by hand"):
        download("o/n", fetch=fetch, sleep=lambda pause: None, retries=Retries(attempts=3))
    assert len(server.asked) == 3


def test_pauses_are_bounded_and_differ():
    retries = Retries(first_pause_s=1.0, longest_pause_s=8.0)
    pauses = [pause_before(30, retries=retries) for _ in range(50)]
    assert all(4.0 <= pause <= 8.0 for pause in pauses)
    assert len(set(pauses)) > 1


@pytest.mark.parametrize("handle", ["", "name", "a/b/c", "/x", "x/"])
def test_a_handle_that_names_nothing_is_refused(handle):
    with pytest.raises(DownloadError, match="OWNER/NAME"):
        download(handle, fetch=lambda handle: pytest.fail("It asked."))


@pytest.fixture
def without_credentials(monkeypatch, tmp_path):
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "kaggle"))
    return tmp_path / "kaggle"


@pytest.mark.usefixtures("without_credentials")
def test_without_credentials_it_says_what_to_do_and_asks_nobody():
    with pytest.raises(DownloadError, match=r"kaggle\.json.*KAGGLE_USERNAME.*by hand"):
        download()


@pytest.mark.usefixtures("without_credentials")
def test_without_kagglehub_it_says_what_to_install(monkeypatch):
    monkeypatch.setenv("KAGGLE_API_TOKEN", "token")
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(MissingDependencyError, match=r"requirements/ml\.txt"):
        download()


@pytest.mark.parametrize(
    ("name", "is_final"),
    [
        ("UnauthenticatedError", True),
        ("CredentialError", True),
        ("NotFoundError", True),
        ("BackendError", False),
        ("DataCorruptionError", False),
    ],
)
def test_kagglehubs_own_errors_are_told_apart(without_credentials, monkeypatch, name, is_final):
    kagglehub = pytest.importorskip("kagglehub")
    without_credentials.mkdir()
    (without_credentials / "kaggle.json").write_text("{}")
    asked = []

    def fail(handle: str) -> str:
        asked.append(handle)
        raise getattr(kagglehub.exceptions, name)("no")

    monkeypatch.setattr(kagglehub, "dataset_download", fail)
    with pytest.raises(DownloadError):
        download(sleep=lambda pause: None, retries=Retries(attempts=3))
    assert len(asked) == (1 if is_final else 3)


def test_a_folder_that_was_fetched_is_returned():
    assert download("o/n", fetch=lambda handle: f"/somewhere/{handle}") == Path("/somewhere/o/n")
