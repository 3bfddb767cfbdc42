"""Every sentence in every language: nothing untranslated, nothing guessed, and everybody reads their own."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.core import mail
from django.test import Client
from django.urls import reverse

from accounts.models import User
from reports.signing import release_report
from tests.factories import (
    AdministratorFactory,
    DoctorFactory,
    PatientFactory,
    ReportFactory,
    StudyFactory,
    UserFactory,
)
from tests.tools import ROOT, skip_or_fail

pytestmark = pytest.mark.django_db
ROOMS = ("portal", "accounts", "studies", "reports", "templates")
OTHERS = [code for code, _ in settings.LANGUAGES if code != settings.LANGUAGE_CODE]


def catalogue(language: str) -> Path:
    """The sentences of a language, as people edit them."""
    return ROOT / "locale" / language / "LC_MESSAGES" / "django.po"


@pytest.fixture(scope="module")
def gettext() -> None:
    """The tools that read sentences out of the code."""
    if not shutil.which("msgfmt") or not shutil.which("xgettext"):
        skip_or_fail("gettext is not installed (apt-get install gettext)")


@pytest.mark.usefixtures("gettext")
@pytest.mark.parametrize("language", OTHERS)
class TestCatalogue:
    def test_every_sentence_of_the_code_is_translated(self, language: str, tmp_path: Path) -> None:
        for room in ROOMS:
            shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("build", "__pycache__"))
        shutil.copytree(ROOT / "locale", tmp_path / "locale")
        for name in ("manage.py", "ml"):
            (tmp_path / name).symlink_to(ROOT / name)
        subprocess.run(
            [sys.executable, "manage.py", "makemessages", "-l", language, "--no-location", "--no-obsolete"],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
        fresh = tmp_path / catalogue(language).relative_to(ROOT)
        for attribute in ("--untranslated", "--only-fuzzy"):
            left = subprocess.run(
                ["msgattrib", attribute, "--no-obsolete", fresh], capture_output=True, text=True, check=True
            ).stdout
            sentences = re.findall(r'^msgid (".+"|""\n".+)', left, flags=re.MULTILINE)
            assert not sentences, (
                f"{attribute}: translate these in locale/{language} (manage.py makemessages):\n" + left
            )

    def test_placeholders_are_those_of_the_original_and_the_compiled_file_is_up_to_date(
        self, language: str, tmp_path: Path
    ) -> None:
        compiled = tmp_path / "django.mo"
        subprocess.run(["msgfmt", "--check", "-o", compiled, catalogue(language)], check=True)
        assert compiled.read_bytes() == catalogue(language).with_suffix(".mo").read_bytes(), (
            "Please run: manage.py compilemessages"
        )


def test_a_visitor_reads_the_language_of_the_browser() -> None:
    page = Client().get(reverse("account_login"), headers={"accept-language": "de-AT,de;q=0.9,en;q=0.5"})
    assert '<html lang="de">' in page.content.decode()
    assert "Anmelden" in page.content.decode()
    page = Client().get(reverse("account_login"), headers={"accept-language": "fr-FR"})
    assert '<html lang="en-gb">' in page.content.decode()
    assert "Log in" in page.content.decode()


def test_who_chose_a_language_reads_it_on_every_device() -> None:
    doctor = DoctorFactory()
    browser = Client()
    browser.force_login(doctor)
    answer = browser.post(reverse("accounts:set_language"), {"language": "de", "next": "/studies/?q=x"})
    assert answer.headers["Location"] == "/studies/?q=x"
    doctor.refresh_from_db()
    assert doctor.language == "de"
    other = Client(headers={"accept-language": "en-GB"})
    other.force_login(doctor)
    assert '<html lang="de">' in other.get("/").content.decode()


@pytest.mark.parametrize("language", ["", "xx", "de'--", "fr"])
def test_a_language_that_the_portal_does_not_speak_changes_nothing(language: str) -> None:
    doctor = DoctorFactory()
    browser = Client()
    browser.force_login(doctor)
    browser.post(reverse("accounts:set_language"), {"language": language})
    doctor.refresh_from_db()
    assert doctor.language == ""


def test_nobody_is_led_to_a_foreign_site_by_the_switch() -> None:
    answer = Client().post(reverse("accounts:set_language"), {"language": "de", "next": "https://example.com/"})
    assert "example.com" not in answer.headers["Location"]


def test_a_mail_speaks_the_language_of_its_reader_and_not_of_whoever_caused_it() -> None:
    doctor = DoctorFactory(language="en-gb")
    reader = UserFactory(language="de")
    study = StudyFactory(created_by=doctor, patient=PatientFactory(created_by=doctor, user=reader))
    report = ReportFactory(study=study, is_signed=True)
    mail.outbox.clear()
    release_report(report, by=doctor, link="https://portal.example/")
    (message,) = mail.outbox
    assert message.to == [reader.email]
    assert "Dokument" in message.subject


@pytest.mark.parametrize("role", ["doctor", "patient", "administrator"])
def test_the_first_pages_of_every_role_are_german_throughout(role: str) -> None:
    person: User = {"doctor": DoctorFactory, "patient": UserFactory, "administrator": AdministratorFactory}[role](
        language="de"
    )
    browser = Client()
    browser.force_login(person)
    page = browser.get("/", follow=True).content.decode()
    assert '<html lang="de"' in page
    words = re.sub(r"<(script|style)\b.*?</\1>|<[^>]+>", " ", page, flags=re.DOTALL)
    left = [word for word in ("Log out", "Skip to", "Reports", "Studies", "Nothing ") if word in words]
    assert left == []
