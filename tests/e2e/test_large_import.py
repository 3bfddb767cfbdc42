"""An archive of 500 slices goes through the real web and worker while somebody else goes on working.

Measured: when the upload is received, when every line is read, when every slice is analysed, and how long pages take
meanwhile. The figures stand in docs/operations.md; a loaded machine gives others, so only what must hold is asserted.
"""

import http.cookiejar
import io
import json
import os
import re
import sqlite3
import statistics
import sys
import threading
import time
import urllib.parse
import urllib.request
import uuid
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from tests.e2e import conftest
from tests.e2e.conftest import Demo, start_demo, stop_demo
from tests.tools import ROOT

pytestmark = pytest.mark.acceptance

SLICES = int(os.environ.get("IRA_TEST_SLICES", "500"))
SIDE_PX = int(os.environ.get("IRA_TEST_SIDE_PX", "512"))
# A page that takes longer than this while an import is worked off does not count as responsive.
PAGE_WITHIN_S = float(os.environ.get("IRA_TEST_PAGE_WITHIN_S", "5"))


class Browser:
    """A person with a log-in."""

    def __init__(self, address: str) -> None:
        self.address, self.jar = address, http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar))

    def get(self, path: str) -> str:
        """Return a page."""
        with self.opener.open(f"{self.address}{path}", timeout=120) as answer:
            return str(answer.read().decode())

    def post(self, path: str, body: bytes, content_type: str) -> str:
        """Send a form; return the address that it leads to."""
        token = next(cookie.value for cookie in self.jar if cookie.name == "csrftoken")
        headers = {"Content-Type": content_type, "X-CSRFToken": str(token), "Referer": f"{self.address}{path}"}
        request = urllib.request.Request(f"{self.address}{path}", data=body, headers=headers)
        with self.opener.open(request, timeout=600) as answer:
            return str(answer.url)

    def log_in(self) -> "Browser":
        """Log in as the demo's doctor."""
        self.get("/accounts/login/")
        form = urllib.parse.urlencode({"login": "doctor@example.org", "password": "radiology-demo"})
        self.post("/accounts/login/", form.encode(), "application/x-www-form-urlencoded")
        return self


def archive() -> bytes:
    """Return a ZIP of slices of a real size, each a picture of its own."""
    with PillowImage.open(ROOT / "fixtures" / "series-a-1.png") as picture:
        pixels = np.asarray(picture.convert("L").resize((SIDE_PX, SIDE_PX))).copy()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as target:
        for number in range(SLICES):
            pixels[:8, :64] = np.random.default_rng(number).integers(0, 60, (8, 64))
            stream = io.BytesIO()
            PillowImage.fromarray(pixels).save(stream, format="PNG")
            target.writestr(f"series/{number:04d}.png", stream.getvalue())
    return packed.getvalue()


def multipart(fields: dict[str, str], *, name: str, content: bytes) -> tuple[bytes, str]:
    """Return a form with one file, and its content type."""
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()
        for field, value in fields.items()
    ]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="slices.zip"\r\n'
    parts.append(f"{head}Content-Type: application/zip\r\n\r\n".encode() + content + b"\r\n")
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def count(demo: Demo, sql: str) -> int:
    """Ask the demo's database, past Django."""
    connection = sqlite3.connect(demo.var_dir / "demo" / "demo.sqlite3", timeout=60)
    try:
        return int(connection.execute(sql).fetchone()[0])
    finally:
        connection.close()


def test_pages_answer_while_500_slices_are_imported_and_analysed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conftest, "UP_WITHIN_S", 1200)
    demo = start_demo(tmp_path)
    try:
        doctor = Browser(demo.address).log_in()
        colleague = Browser(demo.address).log_in()
        study = re.search(r'href="(/studies/[0-9a-f-]{36}/)"', colleague.get("/studies/"))
        assert study is not None
        pages = ["/", "/studies/", study[1], f"{study[1]}read/"]
        quiet = latencies(colleague, pages, rounds=5)
        before = count(demo, "SELECT count(*) FROM studies_analysis")
        page = doctor.get("/studies/imports/new/")
        token = re.search(r'name="token"[^>]*value="([0-9a-f-]{36})"', page)
        assert token is not None
        fields = {"token": token[1], "patient": first_patient(demo), "study_date": "2026-03-09"}
        body, content_type = multipart(fields, name="loose_files", content=archive())
        is_over = threading.Event()
        busy: list[float] = []

        def go_on() -> None:
            while not is_over.is_set():
                busy.extend(latencies(colleague, pages, rounds=1))
                time.sleep(1)

        working = threading.Thread(target=go_on)
        cpu_before_s = cpu_seconds(demo)
        started = time.monotonic()
        working.start()
        try:
            led_to = doctor.post("/studies/imports/new/", body, content_type)
            received_s = time.monotonic() - started
            status = urllib.parse.urlsplit(led_to).path
            read_s = reached(demo, "SELECT count(*) FROM studies_importfile WHERE state = 'waiting'", 0, started)
            stored_s = reached(demo, "SELECT count(*) FROM studies_analysis", before + SLICES, started)
            done = "SELECT count(*) FROM studies_analysis WHERE state = 'succeeded'"
            analysed_s = reached(demo, done, before + SLICES, started)
        finally:
            is_over.set()
            working.join()
        assert count(demo, "SELECT count(*) FROM studies_importfile WHERE state = 'accepted'") == SLICES
        assert count(demo, "SELECT count(*) FROM studies_analysis WHERE state <> 'succeeded'") == 0
        assert str(SLICES) in doctor.get(status)
        cpu_s = cpu_seconds(demo) - cpu_before_s
        stored_bytes = sum(path.stat().st_size for path in (tmp_path / "demo" / "media").rglob("*") if path.is_file())
    finally:
        stop_demo(demo)
    figures = {
        "slices": SLICES,
        "side_px": SIDE_PX,
        "megabytes": round(len(body) / 1024**2, 1),
        "received_s": round(received_s, 1),
        "read_s": round(read_s),
        "stored_s": round(stored_s),
        "analysed_s": round(analysed_s),
        "cpu_ms_per_slice": round(cpu_s * 1000 / SLICES),
        "store_kb_per_slice": round(stored_bytes / 1024 / SLICES),
        "pages_quiet_ms": spread(quiet),
        "pages_busy_ms": spread(busy),
        "pages_busy": len(busy),
    }
    with capfd.disabled():
        sys.stdout.write(f"\n{json.dumps(figures)}\n")
    assert statistics.quantiles(busy, n=20)[18] < PAGE_WITHIN_S


def cpu_seconds(demo: Demo) -> float:
    """Processor seconds of all processes of the demo, and of those of their children that have ended."""
    ticks = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"IRA_VAR_DIR={demo.var_dir}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                ticks += sum(map(int, (folder / "stat").read_text().rpartition(")")[2].split()[11:15]))
        except OSError:
            continue  # it has ended
    return ticks / os.sysconf("SC_CLK_TCK")


def first_patient(demo: Demo) -> str:
    """The identifier of a record of the demo's doctor."""
    connection = sqlite3.connect(demo.var_dir / "demo" / "demo.sqlite3", timeout=60)
    try:
        sql = "SELECT patient_id FROM studies_study s JOIN accounts_user u ON u.id = s.created_by_id WHERE u.email = ?"
        return str(uuid.UUID(connection.execute(sql, ["doctor@example.org"]).fetchone()[0]))
    finally:
        connection.close()


def latencies(person: Browser, pages: list[str], *, rounds: int) -> list[float]:
    """Ask for pages; return how many seconds each took."""
    taken = []
    for page in pages * rounds:
        started = time.monotonic()
        person.get(page)
        taken.append(time.monotonic() - started)
    return taken


def reached(demo: Demo, sql: str, wanted: int, started: float) -> float:
    """Wait until a count is what it shall be; return the seconds since the start."""
    while count(demo, sql) != wanted:
        assert time.monotonic() - started < 3400, f"{sql}: {count(demo, sql)} instead of {wanted}"
        time.sleep(0.5)
    return time.monotonic() - started


def spread(seconds: list[float]) -> dict[str, int]:
    """Median, 95th percentile and longest, in milliseconds."""
    ordered = statistics.quantiles(seconds, n=20)
    return {
        name: round(value * 1000)
        for name, value in (("median", statistics.median(seconds)), ("p95", ordered[18]), ("max", max(seconds)))
    }
