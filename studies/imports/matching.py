"""Finds whose files they are: by record number, among the patients whom the doctor may see."""

import datetime
import unicodedata
from dataclasses import dataclass

# A worker stores these sentences in English; studies.sentences translates them for whoever reads.
from django.utils.translation import gettext_noop as _

from studies.models import Import, Patient

# What stands for a name in files whose patient is not to be known.
NO_NAMES = frozenset({"anonymous", "anonymized", "anonymised", "anon", "unknown", "noname", "deidentified", "removed"})


@dataclass(frozen=True, kw_only=True)
class Person:
    """What a file or a manifest says about whom it shows; texts empty, dates None where it is silent."""

    record_number: str
    family_name: str
    given_name: str
    birth_date: datetime.date | None


@dataclass(frozen=True, kw_only=True)
class Match:
    """The patient found, or the sentence that asks the doctor for one."""

    patient: Patient | None
    question: str


def match_patient(batch: Import, *, person: Person) -> Match:
    """Return the patient of the doctor's hospital under the record number that the files name.

    Only among patients whom the doctor may see: a number in a file must not open a record. Without a number the patient
    that the form named is taken.
    """
    if not person.record_number:
        if batch.patient is not None and _is_visible(batch, batch.patient):
            return Match(patient=batch.patient, question="")
        return Match(patient=None, question=_("The files do not say whose they are. Please choose the patient."))
    at_hospital = Patient.objects.filter(hospital=batch.hospital_id, record_number__iexact=person.record_number)
    found = Patient.objects.visible_to(batch.created_by).filter(id__in=at_hospital.values("id")).first()
    if found is not None:
        if _is_other_name(found, person=person) and _is_other_birth_date(found, person=person):
            return Match(
                patient=None,
                question=_(
                    "Your hospital has a patient with this record number, but the files name another person, born on "
                    "another day. Please check whose they are, and choose."
                ),
            )
        return Match(patient=found, question="")
    if at_hospital.exists():
        return Match(
            patient=None,
            question=_(
                "Your hospital has a patient with this record number whom you do not see. Please check the number, or "
                "ask a colleague who treats this patient to share a study with you, and choose the patient then."
            ),
        )
    return Match(
        patient=None,
        question=_(
            "Your hospital has no patient with this record number. Please choose the patient, or enter a new one."
        ),
    )


def remark(patient: Patient, *, person: Person, study_date: datetime.date) -> str:
    """Say what a file contradicts in the record; empty where it contradicts nothing. It quotes neither of them."""
    if study_date < patient.birth_date:
        return _("The study date lies before the patient's birth. Please check whose it is, and the date.")
    if _is_other_name(patient, person=person):
        return _("The name in the file is not the one on the record. Please check that it is the same person.")
    if _is_other_birth_date(patient, person=person):
        return _("The date of birth in the file is not the one on the record. Please check that it is the same person.")
    return ""


def _is_visible(batch: Import, patient: Patient) -> bool:
    return Patient.objects.visible_to(batch.created_by).filter(id=patient.id).exists()


def _is_other_birth_date(patient: Patient, *, person: Person) -> bool:
    return person.birth_date is not None and person.birth_date != patient.birth_date


def _is_other_name(patient: Patient, *, person: Person) -> bool:
    """Whether no part of the name in the file is a part of the name on the record, accents and case aside."""
    named = _words(f"{person.family_name} {person.given_name}")
    if not named or named & NO_NAMES or named == _words(person.record_number):
        return False
    return not named & _words(f"{patient.family_name} {patient.given_name}")


def _words(text: str) -> set[str]:
    plain = unicodedata.normalize("NFKD", text).casefold()
    letters = "".join(c if c.isalnum() else " " for c in plain if not unicodedata.combining(c))
    return set(letters.split())
