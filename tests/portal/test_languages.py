"""Every sentence in every language: nothing untranslated, nothing guessed, and everybody reads their own."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.core import mail
from django.core.files.uploadedfile import SimpleUploadedFile
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
from tests.studies.bulk import imported
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


@pytest.mark.parametrize(
    ("content", "german", "english"),
    [
        (b"", "Die Datei ist leer. Bitte exportieren Sie die Schicht noch einmal", "The file is empty"),
        (b"%PDF-1.7", "Dies ist ein PDF-Dokument und kann nicht als CT-Schicht gelesen werden.", "This is a PDF"),
        (b"hello", "Diese Datei ist kein Bild einer Art, die gelesen werden kann.", "This file is not a picture"),
    ],
)
def test_a_refused_file_is_explained_in_the_language_of_the_doctor(content: bytes, german: str, english: str) -> None:
    doctor = DoctorFactory(language="de")
    browser = Client()
    browser.force_login(doctor)
    form = {
        "patient": "",
        "record_number": "R-1",
        "family_name": "Muster",
        "given_name": "Maria",
        "birth_date": "1960-05-17",
        "study_date": "2026-03-09",
        "clinical_question": "Herd links?",
        "slices": SimpleUploadedFile("a.png", content),
    }
    answer = browser.post(reverse("studies:study_create"), form)
    page = answer.content.decode()
    assert answer.status_code == 400
    assert german in page
    assert english not in page
    doctor.language = "en-gb"
    doctor.save()
    form["slices"] = SimpleUploadedFile("a.png", content)
    page = browser.post(reverse("studies:study_create"), form).content.decode()
    assert english in page
    assert german not in page


def test_the_lines_of_an_import_are_stored_once_and_read_in_every_language() -> None:
    doctor = DoctorFactory(language="de")
    manifest = b"file,record number\na.png,\ngone.png,R-2\n"
    found = imported(doctor, {"a.png": b"%PDF-1.7", "empty.png": b"", "manifest.csv": manifest})
    sentences = " ".join(line.sentence for line in found.values())
    assert "The file is empty." in sentences
    batch = found["a.png"].batch
    pages = {}
    for language in ("de", "en-gb"):
        doctor.language = language
        doctor.save()
        browser = Client()
        browser.force_login(doctor)
        pages[language] = browser.get(reverse("studies:import_detail", kwargs={"import_id": batch.id})).content.decode()
    for german, english in (
        ("Dies ist ein PDF-Dokument", "This is a PDF document"),
        ("Die Datei ist leer.", "The file is empty."),
        ("Zeile 3 des Manifests nennt eine Datei, die nicht gesendet wurde.", "Line 3 of the manifest names a file"),
    ):
        assert german in pages["de"]
        assert english not in pages["de"]
        assert english in pages["en-gb"]
        assert german not in pages["en-gb"]
