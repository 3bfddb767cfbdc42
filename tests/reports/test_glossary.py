"""The words of reports with their drawings, and how often the computer is wrong as a hundred dots."""

import re

import pytest
from django.core import mail
from django.template.loader import get_template
from django.test import Client
from django.urls import reverse
from pytest_django.asserts import assertContains, assertNotContains

from reports.content import collect_content
from reports.explanation import explain
from reports.glossary import ENTRIES, drawn_entries, entries_in
from reports.models import Report
from reports.signing import release_report
from tests.reports.test_versions import LINK, amended

pytestmark = pytest.mark.django_db


def test_every_word_finds_itself_and_has_a_place_of_its_own() -> None:
    assert len({entry.slug for entry in ENTRIES}) == len(ENTRIES)
    for entry in ENTRIES:
        assert entry in entries_in(f"There is a {entry.word} here."), entry.slug


def test_words_inside_other_words_are_left_alone() -> None:
    assert entries_in("The actor amassed massage oil, globally and frugally.") == ()
    assert [entry.slug for entry in entries_in("MASS in the upper LOBE")] == ["lobe", "mass"]


def test_every_drawing_exists_says_in_words_what_it_shows_and_needs_no_inline_style(client: Client, reader) -> None:
    client.force_login(reader)
    page = client.get(reverse("reports:glossary")).content.decode()
    assert page.count("<figure") == len(drawn_entries())
    for template, words in drawn_entries():
        drawing = get_template(template).render()
        assert re.search(r'role="img" aria-label="[A-Z][^"]{40,}\."', drawing), template
        assert "style=" not in drawing
        assert words
    for entry in ENTRIES:
        assert f'id="{entry.slug}"' in page


def test_the_report_s_words_lead_to_the_glossary(client: Client, released: Report, reader) -> None:
    client.force_login(reader)
    page = client.get(reverse("reports:my_report", args=[released.id]))
    assertContains(page, f"{reverse('reports:glossary')}#adenocarcinoma")


def test_a_hundred_dots_say_what_the_sentence_says(signed: Report) -> None:
    wrong, missed = explain(signed.content).rates
    assert (wrong.count, wrong.low, wrong.high) == (33, 26, 40)
    assert (missed.count, missed.low, missed.high) == (22, 15, 30)
    kinds = [dot.kind for dot in wrong.dots]
    assert [kinds.count(kind) for kind in ("counted", "possible", "other")] == [33, 7, 60]
    assert len({(dot.x, dot.y) for dot in wrong.dots}) == 100


def test_without_figures_there_is_no_drawing(signed: Report, model_card) -> None:
    model_card(None)
    assert explain(collect_content(signed)).rates == ()


def test_no_percentage_on_the_patient_s_page(client: Client, released: Report, reader) -> None:
    client.force_login(reader)
    body = client.get(reverse("reports:my_report", args=[released.id])).content.decode()
    main = re.sub(r"<[^>]+>", " ", body.split("<main", 1)[1].split("</main>", 1)[0])
    plain = main.split("In plain words", 1)[1]
    assert "%" not in plain
    assert "33" in plain


def test_an_amended_report_is_announced_by_mail_and_page(client: Client, released: Report, doctor, reader) -> None:
    amendment = amended(released, by=doctor)
    mail.outbox.clear()
    client.force_login(reader)
    mine = reverse("reports:my_reports")
    assertNotContains(client.get(mine), "you have not opened the new version")
    release_report(amendment, by=doctor, link=LINK)
    (told,) = mail.outbox
    assert told.to == [reader.email]
    assert told.subject == "A document in your account was replaced"
    assert "use the new version only" in told.body
    for word in ("wrong", "side", "lung", "CT", "report", "Hale", doctor.hospital.name):
        assert word not in told.subject + told.body.replace(LINK, "")
    page = client.get(mine)
    assertContains(page, "you have not opened the new version")
    assertContains(page, reverse("reports:my_report", args=[amendment.id]))
    client.get(reverse("reports:my_report", args=[amendment.id]))
    assertNotContains(client.get(mine), "you have not opened the new version")


def test_a_look_of_the_doctor_does_not_count_as_the_patient_s(client: Client, released: Report, doctor, reader) -> None:
    amendment = amended(released, by=doctor)
    release_report(amendment, by=doctor, link=LINK)
    client.force_login(doctor)
    client.get(reverse("reports:report_detail", args=[amendment.id]))
    client.force_login(reader)
    assertContains(client.get(reverse("reports:my_reports")), "you have not opened the new version")


def test_a_first_release_is_not_called_a_replacement(signed: Report, doctor) -> None:
    mail.outbox.clear()
    release_report(signed, by=doctor, link=LINK)
    (told,) = mail.outbox
    assert told.subject == "A document is waiting for you"
    assert "replaced" not in told.body
