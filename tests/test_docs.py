"""Documentation and code say the same: settings, commands, requirements, links."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from tests import commands_page
from tests.documents import blocks_of, documents
from tests.test_running_portal import DOCUMENTS_THAT_ARE_RUN

ROOT = Path(__file__).resolve().parent.parent
AUDIENCES = ["clinicians", "patients", "administrators", "operators", "ml-engineers", "developers"]
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split("\n")
# How many sections each chapter of OWASP ASVS 5.0 has.
ASVS_SECTIONS = dict(enumerate([5, 4, 7, 4, 4, 8, 6, 4, 2, 7, 7, 3, 4, 3, 4, 5, 3], start=1))
FRAMEWORK_NAMES = {"DJANGO_SETTINGS_MODULE"}


def settings_read_by_code() -> set[str]:
    names: set[str] = set()
    for room in ["portal", "accounts", "studies", "reports", "ml", "pipelines"]:
        for path in (ROOT / room).rglob("*.py"):
            text = path.read_text()
            names |= set(re.findall(r"\benv(?:\.\w+)?\(\s*\"([A-Z][A-Z0-9_]+)\"", text))
            names |= set(re.findall(r"environ(?:\.get\(|\[)\s*\"((?:IRA|DJANGO)_[A-Z0-9_]+)\"", text))
            names |= set(re.findall(r"_ENVIRONMENT\s*=\s*\"(IRA_[A-Z0-9_]+)\"", text))
    return {name for name in names if not name.startswith("IRA_TEST_")} | FRAMEWORK_NAMES


def test_every_setting_is_documented_and_every_documented_setting_exists() -> None:
    documented = set(re.findall(r"^\| `([A-Z_0-9]+)` \|", (ROOT / "docs/configuration.md").read_text(), re.MULTILINE))
    assert documented == settings_read_by_code()


def test_the_example_environment_names_the_documented_settings() -> None:
    documented = set(re.findall(r"^\| `([A-Z_0-9]+)` \|", (ROOT / "docs/configuration.md").read_text(), re.MULTILINE))
    example = set(re.findall(r"^([A-Z_0-9]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert example == documented


@pytest.mark.parametrize("name", ["base", "ml", "production", "dev"])
def test_requirements_are_pinned_and_hashed(name: str) -> None:
    text = (ROOT / f"requirements/{name}.txt").read_text()
    packages = [line for line in text.splitlines() if re.match(r"^[A-Za-z0-9]", line)]
    assert packages
    assert [line for line in packages if "==" not in line] == []
    assert text.count("--hash=sha256:") >= len(packages)


@pytest.mark.parametrize("name", ["base", "production"])
def test_serving_installs_no_training_library(name: str) -> None:
    text = (ROOT / f"requirements/{name}.txt").read_text().lower()
    assert not re.search(r"^(tensorflow|keras|mlflow|dvc|scikit-learn|opencv|matplotlib|pandas)\b", text, re.MULTILINE)


def test_every_direct_dependency_is_justified() -> None:
    decisions = (ROOT / "docs/decisions.md").read_text().lower()
    direct = set()
    for path in (ROOT / "requirements").glob("*.in"):
        direct |= {
            re.split(r"[\[<>=!~ ]", line)[0].lower()
            for line in path.read_text().splitlines()
            if line and not line.startswith(("#", "-"))
        }
    known_by_suffix = {"pytest-django": "-django", "pytest-xdist": "-xdist", "pytest-timeout": "-timeout"}
    missing = [
        name for name in sorted(direct) if known_by_suffix.get(name, name) not in decisions and name not in decisions
    ]
    unexplained = [name for name in missing if not name.endswith("-stubs")]
    assert unexplained == []


def test_every_make_target_in_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = set()
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        named |= set(re.findall(r"`make ([a-z-]+)", document.read_text()))
    assert named
    assert named - targets == set()


def test_relative_links_of_the_documents_lead_somewhere() -> None:
    broken = []
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", document.read_text()):
            if not (document.parent / target).exists():
                broken.append(f"{document.name}: {target}")
    assert broken == []


def test_the_repository_stays_small_and_free_of_machine_paths() -> None:
    files = [ROOT / name for name in TRACKED if name and (ROOT / name).is_file()]
    if not files:
        pytest.skip("not a git checkout")
    large = [path.name for path in files if path.stat().st_size > 5_000_000 and "starter" not in path.parts]
    assert large == []
    starter_bytes = sum(path.stat().st_size for path in files if "starter" in path.parts)
    assert starter_bytes <= 40_000_000


def test_every_row_of_the_security_table_names_tests_that_exist_or_a_reason() -> None:
    rows = re.findall(r"^\| (\d+\.\d.*?) \| (.*?) \| (.*?) \|$", (ROOT / "docs/security.md").read_text(), re.MULTILINE)
    named_sections: list[tuple[int, int]] = []
    for section, _what, _proof in rows:
        chapter, first, last = re.match(r"(\d+)\.(\d+)(?:–\d+\.(\d+))?", section).groups()  # type: ignore[union-attr]
        named_sections += [(int(chapter), number) for number in range(int(first), int(last or first) + 1)]
    # Each section once, none left out.
    assert named_sections == [
        (chapter, number) for chapter, count in ASVS_SECTIONS.items() for number in range(1, count + 1)
    ]
    wrong = []
    for section, _what, proof in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", proof)
        if not named and not proof.startswith("Reason: "):
            wrong.append(f"{section}: neither a test nor a reason")
        for path, test in named:
            file = ROOT / path
            if not file.is_file() or (test and f"def {test}(" not in file.read_text()):
                wrong.append(f"{section}: {path}::{test} does not exist")
    assert wrong == []


def test_every_command_is_described_as_it_describes_itself() -> None:
    assert commands_page.PAGE.read_text() == commands_page.page(), "Renew it: python -m tests.commands_page"


def test_every_block_of_code_is_run_or_says_why_not() -> None:
    found = [block for document in documents() for block in blocks_of(document)]
    assert len(found) > 30
    for block in found:
        assert block.language in {"", "sh", "python", "text", "yaml", "json"}, block
        if block.language in {"yaml", "json"}:
            # Data of another program; JSON is YAML too.
            assert yaml.safe_load(block.text), block
        elif block.language in {"", "text"}:
            # A drawing, no command.
            assert re.search(r"[─│▶▲▼┘]", block.text), f"{block}: mark commands as sh"
        elif not block.reason:
            assert block.document in DOCUMENTS_THAT_ARE_RUN, f"{block}: no test runs the commands of this document"


@pytest.mark.parametrize("audience", AUDIENCES)
def test_the_first_page_leads_everybody_to_what_they_want_to_do(audience: str) -> None:
    assert f"(for-{audience}.md)" in (ROOT / "docs/index.md").read_text()
    assert (ROOT / f"docs/for-{audience}.md").read_text().startswith("# For ")


def test_what_the_pages_for_people_call_by_name_is_called_so_in_the_portal() -> None:
    rooms = ["templates", "accounts", "studies", "reports", "portal"]
    files = [path for room in rooms for path in (ROOT / room).rglob("*") if path.suffix in {".html", ".py"}]
    portal = "".join(path.read_text() for path in files)
    named = [
        (audience, name)
        for audience in AUDIENCES[:3]
        for name in re.findall(r"(?<![*\w])\*([^*\n]+)\*(?!\*)", (ROOT / f"docs/for-{audience}.md").read_text())
    ]
    assert len(named) > 30
    assert [(audience, name) for audience, name in named if name not in portal] == []


class Fetched(HTMLParser):
    """Collects what a page fetches by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        if tag in {"script", "img", "iframe", "source"} and names.get("src"):
            self.addresses.append(str(names["src"]))
        if tag == "link" and names.get("rel") != "canonical" and names.get("href"):
            self.addresses.append(str(names["href"]))


def test_the_site_is_built_strictly_and_fetches_nothing_from_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) >= len(list((ROOT / "docs").glob("*.md")))
    for page in pages:
        fetched = Fetched()
        fetched.feed(page.read_text())
        assert fetched.addresses
        for address in fetched.addresses:
            assert not re.match(r"(https?:)?//", address), (page.name, address)
    for sheet in tmp_path.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", sheet.read_text()), sheet.name
