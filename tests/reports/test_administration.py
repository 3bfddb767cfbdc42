"""Reports in the administration and on the command line: states and hashes, never words."""

import io

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from reports.models import Report
from tests.factories import AdministratorFactory, ReportFactory, StudyFactory

pytestmark = pytest.mark.django_db

LIST = "admin:reports_report_changelist"


def test_an_administrator_sees_the_states_of_the_own_hospital_only(signed, doctor, log_in):
    foreign = ReportFactory()
    page = log_in(AdministratorFactory(hospital=doctor.hospital)).get(reverse(LIST)).content.decode()
    assert str(signed.id) in page
    assert str(foreign.id) not in page
    assert signed.content.patient.family_name not in page


def test_a_foreign_report_cannot_be_opened(signed, log_in):
    browser = log_in(AdministratorFactory())
    answer = browser.get(reverse("admin:reports_report_change", args=[signed.id]))
    assert answer.status_code == 302


def test_a_superuser_sees_all_hospitals(signed, log_in):
    foreign = ReportFactory()
    page = log_in(AdministratorFactory(is_superuser=True)).get(reverse(LIST)).content.decode()
    assert str(signed.id) in page
    assert str(foreign.id) in page


def test_the_administration_shows_no_words_and_changes_nothing(signed, doctor, log_in):
    browser = log_in(AdministratorFactory(hospital=doctor.hospital, is_superuser=True))
    address = reverse("admin:reports_report_change", args=[signed.id])
    page = browser.get(address).content.decode()
    assert signed.content_sha256 in page
    for words in (signed.impression.splitlines()[0], signed.content.patient.family_name, "<textarea"):
        assert words not in page
    assert browser.post(address, {"impression": "x"}).status_code == 403
    assert browser.get(reverse("admin:reports_report_add")).status_code == 403
    assert browser.post(reverse("admin:reports_report_delete", args=[signed.id]), {"post": "yes"}).status_code == 403
    assert Report.objects.get().impression == signed.impression


@pytest.mark.parametrize("search", ["L-unknown", "%", "O'Nobody", "not-a-uuid"])
def test_searching_for_odd_things_finds_nothing_and_fails_not(signed, doctor, log_in, search):
    answer = log_in(AdministratorFactory(hospital=doctor.hospital)).get(reverse(LIST), {"q": search})
    assert answer.status_code == 200
    assert str(signed.id) not in answer.content.decode()


def test_searching_by_record_number_finds_the_report(signed, doctor, log_in):
    number = signed.study.patient.record_number
    answer = log_in(AdministratorFactory(hospital=doctor.hospital)).get(reverse(LIST), {"q": number})
    assert str(signed.id) in answer.content.decode()


def test_doctors_and_patients_do_not_reach_the_administration(signed, doctor, reader, log_in):
    for person in (doctor, reader):
        assert log_in(person).get(reverse(LIST)).status_code == 302


def test_the_check_of_all_reports_passes_and_counts(signed, doctor):
    ReportFactory(study=StudyFactory(created_by=doctor))
    output = io.StringIO()
    call_command("verify_reports", stdout=output)
    assert "All 1 signed reports are as they were signed" in output.getvalue()


def test_the_check_of_all_reports_names_the_damaged_one_and_no_patient(signed):
    Report.objects.update(impression="Forged.")
    output = io.StringIO()
    with pytest.raises(CommandError, match="1 of 1"):
        call_command("verify_reports", stdout=output)
    assert str(signed.id) in output.getvalue()
    assert signed.content.patient.family_name not in output.getvalue()
