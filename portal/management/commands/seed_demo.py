"""``manage.py seed_demo``: fill the demo hospital. Every step looks first whether it is done already."""

import datetime
import logging
from dataclasses import dataclass
from typing import Any, Final

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from accounts.models import Hospital, Role, User
from accounts.roles import apply_role
from reports.drafting import draft_report
from reports.models import Opening, Report
from reports.permissions import grant_release
from reports.signing import sign_report
from studies.intake import NewPatient, Upload, submit_study
from studies.models import Analysis, FirstImpression, Patient, Study
from studies.tasks import analyse_image

FIXTURES: Final = settings.BASE_DIR / "fixtures"
HOSPITAL: Final = "Riverside Demonstration Hospital"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One invented examination. ``stage`` is how far its report has come: none, draft, signed or released.

    ``impression`` is what the invented doctor wrote in place of the system's draft; empty leaves the draft.
    ``first_impression`` (class, suspicion 1 to 5) is what the doctor noted before seeing the software's answer; studies
    without a report have none yet, so that their answers are still hidden.
    """

    record_number: str
    given_name: str
    family_name: str
    birth_date: datetime.date
    days_ago: int
    question: str
    files: tuple[str, ...]
    stage: str = ""
    impression: str = ""
    first_impression: tuple[str, int] = ("unsure", 3)
    has_log_in: bool = False


CASES: Final = (
    Case(
        record_number="DEMO-1001",
        given_name="Alex",
        family_name="Example",
        birth_date=datetime.date(1958, 3, 14),
        days_ago=200,
        question="Cough for six weeks, former smoker. Any mass?",
        files=("series-b-1.jpg", "series-b-2.jpg", "series-b-3.jpg"),
        stage="released",
        impression=(
            "No mass and no suspicious nodule on these three slices. What the software may have outlined are vessels "
            "cut across. No follow-up needed for this question."
        ),
        first_impression=("normal", 1),
        has_log_in=True,
    ),
    Case(
        record_number="DEMO-1001",
        given_name="Alex",
        family_name="Example",
        birth_date=datetime.date(1958, 3, 14),
        days_ago=12,
        question="Shadow on the chest X-ray. Please characterise.",
        files=("series-a-1.png", "series-a-2.png", "series-a-3.png", "series-a-4.png"),
        stage="released",
        impression=(
            "Spiculated mass of about 3.5 cm in the right lung, suspicious of a primary lung cancer. Other outlined "
            "regions are vessels cut across. A tissue sample is advised; discussion in the lung conference."
        ),
        first_impression=("adenocarcinoma", 5),
        has_log_in=True,
    ),
    Case(
        record_number="DEMO-1002",
        given_name="Kim",
        family_name="Placeholder",
        birth_date=datetime.date(1966, 11, 2),
        days_ago=5,
        question="Part-solid nodule known elsewhere. Follow-up.",
        files=("part-solid-nodule.png",),
        stage="signed",
        impression="Part-solid nodule in the right lung. Follow-up CT in three months.",
        first_impression=("adenocarcinoma", 3),
    ),
    Case(
        record_number="DEMO-1003",
        given_name="Maria",
        family_name="Muster",
        birth_date=datetime.date(1949, 7, 23),
        days_ago=3,
        question="Weight loss. Staging.",
        files=("central-mass-soft-tissue.png",),
        stage="draft",
    ),
    Case(
        record_number="DEMO-1004",
        given_name="Jan",
        family_name="Vzor",
        birth_date=datetime.date(1972, 1, 30),
        days_ago=1,
        question="Incidental nodules before hip surgery.",
        files=("two-nodules.png",),
    ),
    Case(
        record_number="DEMO-1005",
        given_name="Rosa",
        family_name="Ejemplo",
        birth_date=datetime.date(1961, 9, 9),
        days_ago=0,
        question="Pleural thickening?",
        files=("pleural-nodule.jpg",),
    ),
    Case(
        record_number="DEMO-1006",
        given_name="Sam",
        family_name="Specimen",
        birth_date=datetime.date(1980, 12, 5),
        days_ago=0,
        question="",
        files=("solid-nodule.png",),
    ),
)


class Command(BaseCommand):
    """Create hospital, people, analysed studies and one report at each stage."""

    help = "Fill the demo hospital with invented people and generated slices. Only with the demo settings."

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what is not done yet, saying so. Raises ``CommandError`` if an analysis does not succeed."""
        if not settings.IS_DEMO:
            raise CommandError("The demo hospital exists with the demo settings only. Please start it with: make demo")
        hospital, _ = Hospital.objects.get_or_create(
            name=HOSPITAL,
            defaults={
                "department": "Department of Radiology",
                "address": "1 Example Street\n00000 Sampletown",
                "phone": "+00 000 000000",
            },
        )
        doctor = self._person("doctor", given="Robin", family="Sample", role=Role.DOCTOR, hospital=hospital)
        patient = self._person("patient", given="Alex", family="Example", role=Role.PATIENT)
        self._person("administrator", given="Chris", family="Deskworth", role=Role.ADMINISTRATOR, hospital=hospital)
        # The terminal gets one line a study; what queue, worker and reports log meanwhile would only tear it apart.
        logging.disable(logging.INFO)
        try:
            for number, case in enumerate(CASES, start=1):
                self.stdout.write(f"▸ Demo hospital, study {number} of {len(CASES)} … ", ending="")
                self.stdout.flush()
                self.stdout.write(self._bring_up(case, number=number, doctor=doctor, patient_user=patient))
        finally:
            logging.disable(logging.NOTSET)

    def _person(self, key: str, *, given: str, family: str, role: Role, hospital: Hospital | None = None) -> User:
        email = settings.DEMO_LOGINS[key]
        user = User.objects.filter(email=email).first()
        if user is None:
            user = User.objects.create_user(
                email,
                settings.DEMO_PASSWORD,
                given_name=given,
                family_name=family,
                role=role,
                hospital=hospital,
                is_staff=role == Role.ADMINISTRATOR,
                approved_at=timezone.now() if role == Role.DOCTOR else None,
            )
        # Whoever tried the second step on a public log-in would leave the next person without the one click.
        Authenticator.objects.filter(user=user).delete()
        EmailAddress.objects.get_or_create(user=user, email=email, defaults={"verified": True, "primary": True})
        apply_role(user)
        return user

    def _bring_up(self, case: Case, *, number: int, doctor: User, patient_user: User) -> str:
        """Carry one case to its stage; return what was done, for the terminal."""
        accession = f"DEMO-CT-{number:03d}"
        study = Study.objects.filter(accession_number=accession).first()
        if study is None:
            study = self._submit(case, accession=accession, doctor=doctor)
        if case.has_log_in:
            Patient.objects.filter(id=study.patient_id, user=None).update(user=patient_user, email=patient_user.email)
        analyses = Analysis.objects.filter(image__study=study)
        waiting = list(analyses.filter(state=Analysis.State.QUEUED).values_list("id", flat=True))
        for analysis_id in waiting:
            analyse_image(str(analysis_id))
        if failed := analyses.filter(state=Analysis.State.FAILED).first():
            raise CommandError(f"A generated slice could not be analysed: {failed.error}")
        is_changed = self._report(case, study=study, doctor=doctor)
        return f"analysed {len(waiting)} slices" if waiting else ("report prepared" if is_changed else "already there")

    def _submit(self, case: Case, *, accession: str, doctor: User) -> Study:
        known = Patient.objects.filter(hospital=doctor.hospital, record_number=case.record_number).first()
        return submit_study(
            doctor,
            patient=known
            or NewPatient(
                record_number=case.record_number,
                given_name=case.given_name,
                family_name=case.family_name,
                birth_date=case.birth_date,
            ),
            study_date=timezone.localdate() - datetime.timedelta(days=case.days_ago),
            accession_number=accession,
            clinical_question=case.question,
            uploads=[Upload(name=name, content=(FIXTURES / name).read_bytes()) for name in case.files],
            is_synthetic=True,
        )

    def _report(self, case: Case, *, study: Study, doctor: User) -> bool:
        """Bring the report to the case's stage; return whether anything was done."""
        if not case.stage:
            return False
        report = Report.objects.filter(study=study).first()
        is_changed = report is None
        if not study.reveals_ai_to(doctor):
            diagnosis, suspicion = case.first_impression
            FirstImpression.objects.note(study, doctor=doctor, diagnosis=diagnosis, suspicion=suspicion)
        if report is None:
            report = draft_report(study, by=doctor)
        if case.impression and report.can_be_edited and report.impression != case.impression:
            report.edit(
                by=doctor,
                revision=report.revision,
                findings_text=report.findings_text,
                impression=case.impression,
            )
        if case.stage in ("signed", "released") and report.can_be_signed:
            Opening.objects.note(report, doctor=doctor)
            evidence = report.content_for(doctor).evidence
            sign_report(report, by=doctor, revision=report.revision, evidence=evidence)
            is_changed = True
        if case.stage == "released" and report.can_be_released:
            # Without the notice by e-mail: nobody has asked for this release.
            report.release(by=doctor)
            grant_release(report)
            is_changed = True
        return is_changed
