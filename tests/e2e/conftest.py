"""The demo as its user starts it (web, worker, a database of its own) and a real Chromium to look at it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright

from tests.tools import ROOT, SHARED_DATA, chromium, free_port

PASSWORD = "radiology-demo"
UP_WITHIN_S = 400  # seconds of work on a quiet machine, minutes on one that is busy with something else
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass(frozen=True)
class Demo:
    """A running demo."""

    address: str
    var_dir: Path
    process: subprocess.Popen[str]
    log: list[str]

    def mail_link(self, pattern: str, *, within_s: float = 15) -> str:
        """Return the newest link in the mails that the web process has printed whose address matches ``pattern``."""
        give_up_at = time.monotonic() + within_s
        while time.monotonic() < give_up_at:
            text = "".join(self.log)
            if links := re.findall(rf"https?://\S*{pattern}\S*", text):
                return links[-1]
            time.sleep(0.2)
        raise AssertionError(f"No mail with a link like {pattern} was printed.")


def start_demo(var_dir: Path, *, port: int | None = None) -> Demo:
    """Start ``manage.py demo`` with its data in ``var_dir`` and wait until it answers."""
    port = port or free_port()
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "portal.settings.demo", "IRA_VAR_DIR": str(var_dir)}
    process = subprocess.Popen(
        [sys.executable, "manage.py", "demo", "--port", str(port)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    log: list[str] = []

    # A reader of its own: a full pipe would stop the demo.
    threading.Thread(target=lambda: _drain(process, log), daemon=True).start()
    demo = Demo(address=f"http://localhost:{port}", var_dir=var_dir, process=process, log=log)
    give_up_at = time.monotonic() + UP_WITHIN_S
    while time.monotonic() < give_up_at:
        if process.poll() is not None:
            break
        if any("The demo is ready" in line for line in log):
            return demo
        time.sleep(0.2)
    stop_demo(demo)
    raise AssertionError("The demo did not come up:\n" + "".join(log[-60:]))


def _drain(process: subprocess.Popen[str], log: list[str]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            log.append(line)


def stop_demo(demo: Demo, *, within_s: float = 20) -> int | None:
    """Send what Ctrl-C sends and return the exit code."""
    if demo.process.poll() is None:
        demo.process.send_signal(signal.SIGINT)
        try:
            demo.process.wait(within_s)
        except subprocess.TimeoutExpired:
            os.killpg(demo.process.pid, signal.SIGKILL)
            demo.process.wait(5)
    return demo.process.returncode


def processes_of(var_dir: Path) -> list[str]:
    """Return the command lines of all living processes that were started for this demo's folder."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            environment = (folder / "environ").read_bytes()
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if f"IRA_VAR_DIR={var_dir}".encode() in environment.split(b"\0") and state != "Z":
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


@pytest.fixture(scope="session")
def seeded_var_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of a demo that was started on an empty folder and stopped by Ctrl-C; copy it, never change it."""
    var_dir = tmp_path_factory.mktemp("seeded")
    running = start_demo(var_dir)
    assert stop_demo(running) == 0
    assert processes_of(var_dir) == []
    return var_dir


@pytest.fixture(scope="session")
def demo(seeded_var_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One demo for all browser tests of a process; each test uses patients of its own."""
    var_dir = tmp_path_factory.mktemp("demo")
    shutil.copytree(seeded_var_dir, var_dir, dirs_exist_ok=True)
    running = start_demo(var_dir)
    yield running
    stop_demo(running)


@pytest.fixture(scope="session")
def _playwright() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="session")
def browser(_playwright: Playwright) -> Iterator[Browser]:
    """The system's Chromium."""
    running = _playwright.chromium.launch(executable_path=chromium(), args=CHROMIUM_FLAGS)
    yield running
    running.close()


@pytest.fixture
def context(browser: Browser, demo: Demo) -> Iterator[BrowserContext]:
    """A fresh browser profile that reports every script error and failed request as a failure of the test."""
    fresh = browser.new_context(base_url=demo.address, viewport=DESKTOP, locale="en-GB", accept_downloads=True)
    fresh.set_default_timeout(20_000)
    problems: list[str] = []
    fresh.on("weberror", lambda error: problems.append(str(error.error)))
    fresh.on("response", lambda r: problems.append(f"{r.status} {r.url}") if r.status >= 500 else None)
    yield fresh
    fresh.close()
    assert problems == []


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """One tab."""
    return context.new_page()


def log_in(page: Page, email: str, *, password: str = PASSWORD) -> None:
    """Log in through the form."""
    page.goto("/accounts/login/")
    page.get_by_label("E-mail", exact=False).first.fill(email)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Log in", exact=True).click()
    page.wait_for_url(lambda url: "/login/" not in url)


def note_first_impression(page: Page, *, diagnosis: str = "Adenocarcinoma", suspicion: int = 4, note: str = "") -> None:
    """Note on the page of a study what the doctor thinks, so that the software's answer is shown."""
    page.get_by_label("What do you take it for?").select_option(label=diagnosis)
    page.get_by_label("How suspicious of malignancy is it?").select_option(value=str(suspicion))
    page.get_by_label("Note", exact=False).first.fill(note)
    page.get_by_role("button", name="Note it and show what the software says").click()
    page.wait_for_load_state()


@pytest.fixture(scope="session")
def slice_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slice with a tumour: a real one where ../shared/data is, a generated one elsewhere."""
    real = sorted((SHARED_DATA / "msd-lung-slices").glob("*/slice*_mask.png"))
    if real:
        from PIL import Image

        def tumour_px(path: Path) -> int:
            with Image.open(path) as mask:
                return sum(mask.convert("L").histogram()[128:])

        largest = max(real, key=tumour_px)
        return largest.with_name(largest.name.replace("_mask", ""))
    from PIL import Image

    from ml.phantom import make_phantom

    path = tmp_path_factory.mktemp("slices") / "generated.png"
    Image.fromarray(make_phantom(7).pixels).save(path)
    return path


def answers(address: str) -> bool:
    """Whether something answers at ``address``."""
    try:
        with urllib.request.urlopen(f"{address}/healthz", timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False
