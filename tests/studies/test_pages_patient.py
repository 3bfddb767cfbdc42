"""The pages of a patient, as a doctor sees them."""

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django.asserts import assertContains, assertNotContains, assertRedirects

from accounts.models import AccessEvent, User
from studies.models import Patient
from studies.permissions import grant_study
from tests.factories import DoctorFactory, PatientFactory, StudyFactory

pytestmark = pytest.mark.django_db
MARIA = {
    "record_number": "R-1",
    "family_name": "Muster",
    "given_name": "Maria",
    "birth_date": "1960-05-17",
    "email": "maria@example.org",
}


@pytest.fixture
def doctor() -> User:
    return DoctorFactory()


@pytest.fixture
def page(client: Client, doctor: User) -> Client:
    client.force_login(doctor)
    return client


def detail(patient: Patient) -> str:
    return reverse("studies:patient_detail", kwargs={"patient_id": patient.id})


def edit(patient: Patient) -> str:
    return reverse("studies:patient_edit", kwargs={"patient_id": patient.id})


def test_a_new_record_belongs_to_the_doctor_s_hospital(page: Client, doctor: User) -> None:
    response = page.post(reverse("studies:patient_create"), MARIA)
    patient = Patient.objects.get()
    assertRedirects(response, detail(patient))
    assert (patient.hospital, patient.created_by) == (doctor.hospital, doctor)
    assert patient.can_be_changed_by(doctor)
    assert AccessEvent.objects.filter(action="created", target_id=patient.id).exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"record_number": ""}, "This field is required"),
        ({"birth_date": "2999-01-01"}, "lies in the future"),
        ({"email": "maria"}, "valid email"),
        ({"given_name": "x" * 81}, "at most 80"),
        ({"record_number": "known"}, "already has a patient"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_stored(
    page: Client, doctor: User, changes: dict[str, str], sentence: str
) -> None:
    PatientFactory(created_by=doctor, record_number="KNOWN")
    response = page.post(reverse("studies:patient_create"), MARIA | changes)
    assertContains(response, sentence, status_code=400)
    assert Patient.objects.count() == 1


def test_hospital_user_and_author_cannot_be_posted(page: Client, doctor: User) -> None:
    other = DoctorFactory()
    page.post(
        reverse("studies:patient_create"),
        MARIA | {"hospital": str(other.hospital_id), "user": str(other.id), "created_by": str(other.id)},
    )
    patient = Patient.objects.get()
    assert (patient.hospital, patient.user, patient.created_by) == (doctor.hospital, None, doctor)


def test_a_record_is_corrected_and_the_change_recorded(page: Client, doctor: User) -> None:
    patient = PatientFactory(created_by=doctor, record_number="R-1")
    assertContains(page.get(edit(patient)), 'value="1960-05-17"')
    assertRedirects(page.post(edit(patient), MARIA | {"family_name": "Neumann"}), detail(patient))
    patient.refresh_from_db()
    assert patient.family_name == "Neumann"
    assert AccessEvent.objects.filter(action="changed", target_id=patient.id, actor=doctor).exists()


def test_a_refused_correction_leaves_the_record_and_the_heading_as_they_were(page: Client, doctor: User) -> None:
    patient = PatientFactory(created_by=doctor, family_name="Alt", given_name="Anna")
    response = page.post(edit(patient), MARIA | {"family_name": "Neu", "birth_date": ""})
    assertContains(response, "Alt, Anna", status_code=400)
    assertContains(response, 'value="Neu"', status_code=400)
    patient.refresh_from_db()
    assert patient.family_name == "Alt"


def test_the_number_of_another_patient_cannot_be_taken_but_the_own_kept(page: Client, doctor: User) -> None:
    patient = PatientFactory(created_by=doctor, record_number="R-1")
    PatientFactory(created_by=doctor, record_number="R-2")
    assertContains(page.post(edit(patient), MARIA | {"record_number": "r-2"}), "already has", status_code=400)
    assert page.post(edit(patient), MARIA | {"record_number": "r-1"}).status_code == 302


def test_the_page_shows_only_visible_studies_of_the_patient(page: Client, doctor: User) -> None:
    colleague = DoctorFactory(hospital=doctor.hospital)
    patient = PatientFactory(created_by=colleague)
    shared = StudyFactory(created_by=colleague, patient=patient)
    hidden = StudyFactory(created_by=colleague, patient=patient, clinical_question="Not for everybody")
    grant_study(shared, to=doctor, can_change=False)
    response = page.get(detail(patient))
    assertContains(response, str(shared.id))
    assertNotContains(response, str(hidden.id))
    assertNotContains(response, "Not for everybody")
    assertNotContains(response, "Correct the record")
    assert AccessEvent.objects.filter(action="viewed", target_id=patient.id, actor=doctor).exists()


def test_the_list_shows_exactly_the_visible_patients_by_name(page: Client, doctor: User) -> None:
    names = ["Zorn", "Abel", "Muster"]
    for name in names:
        PatientFactory(created_by=doctor, family_name=name)
    PatientFactory(family_name="Stranger")
    PatientFactory(created_by=DoctorFactory(hospital=doctor.hospital), family_name="Hidden")
    rows = page.get(reverse("studies:patient_list")).context["page"].rows
    assert [patient.family_name for patient in rows] == sorted(names)
    found = page.get(reverse("studies:patient_list"), {"q": "mus"}).context["page"].rows
    assert [patient.family_name for patient in found] == ["Muster"]


def test_pages_of_namesakes_follow_each_other(page: Client, doctor: User) -> None:
    for _ in range(30):
        PatientFactory(created_by=doctor, family_name='Ö\'Same, "x"', given_name="Name")
    first = page.get(reverse("studies:patient_list")).context["page"]
    second = page.get(reverse("studies:patient_list"), {"after": first.next_key}).context["page"]
    assert len({patient.id for patient in [*first.rows, *second.rows]}) == 30
    assert (second.next_key, second.is_first) == ("", False)
