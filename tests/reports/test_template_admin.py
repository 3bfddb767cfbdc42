"""Report templates in the administration."""

import pytest
from django.urls import reverse

from reports.models import ReportTemplate
from tests.factories import AdministratorFactory, HospitalFactory, ReportTemplateFactory

pytestmark = pytest.mark.django_db
ADD = reverse("admin:reports_reporttemplate_add")


def form(hospital, **changes) -> dict:
    values = {"hospital": hospital.pk, "name": "Follow-up", "findings_text": "{measurements}", "impression": "None."}
    return values | {"is_active": "on"} | changes


def test_an_administrator_writes_a_template_of_the_own_hospital(log_in):
    administrator = AdministratorFactory()
    browser = log_in(administrator)
    page = browser.get(ADD).content.decode()
    assert "{measurements}" in page
    assert browser.post(ADD, form(administrator.hospital)).status_code == 302
    template = ReportTemplate.objects.get()
    assert (template.hospital, template.changed_by) == (administrator.hospital, administrator)


def test_of_other_hospitals_an_administrator_neither_sees_nor_writes_any(log_in):
    foreign = ReportTemplateFactory()
    browser = log_in(AdministratorFactory())
    assert foreign.name not in browser.get(reverse("admin:reports_reporttemplate_changelist")).content.decode()
    assert browser.get(reverse("admin:reports_reporttemplate_change", args=[foreign.pk])).status_code == 302
    assert foreign.hospital.name not in browser.get(ADD).content.decode()
    assert browser.post(ADD, form(foreign.hospital)).status_code == 200
    assert ReportTemplate.objects.count() == 1


@pytest.mark.parametrize("text", ["{nonsense}", "{measurements} {Patient}"])
def test_an_unknown_placeholder_is_told_with_those_that_exist(log_in, text):
    administrator = AdministratorFactory()
    answer = log_in(administrator).post(ADD, form(administrator.hospital, findings_text=text))
    page = answer.content.decode()
    assert "There is no placeholder" in page
    assert "{record_number}" in page
    assert not ReportTemplate.objects.exists()


@pytest.mark.parametrize("changes", [{"findings_text": "", "impression": ""}, {"name": ""}, {"name": "TEMPLATE"}])
def test_a_template_needs_a_text_and_a_name_of_its_own(log_in, changes):
    administrator = AdministratorFactory()
    ReportTemplateFactory(hospital=administrator.hospital, name="Template")
    assert log_in(administrator).post(ADD, form(administrator.hospital, **changes)).status_code == 200
    assert ReportTemplate.objects.count() == 1


def test_a_superuser_writes_for_any_hospital(log_in):
    hospital = HospitalFactory()
    superuser = AdministratorFactory(is_superuser=True, hospital=None)
    assert log_in(superuser).post(ADD, form(hospital)).status_code == 302
    assert ReportTemplate.objects.get().hospital == hospital
