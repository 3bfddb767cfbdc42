"""Every address of the portal asked as everybody: what somebody may not see does not exist for them.

``TABLE`` and ``ADMINISTRATION`` name every URL of the project; an address that is missing from them fails the suite,
and so does a line whose address is gone. Each question is asked in a transaction of its own that is rolled back, so
that no answer depends on the order of the questions.
"""

import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.core.cache import cache
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone

from accounts.models import AccessEvent, Hospital, User
from accounts.roles import create_roles
from ml.models import Deployment, Event, ModelVersion, TrainingRun
from portal.dashboard.pages import PAGES
from reports.automatic import automatic_report_of
from reports.models import BulkJob, BulkLine, Report, ReportTemplate, ShareLink
from reports.tasks import run_bulk_job
from studies.models import (
    Analysis,
    ErasureRequest,
    Finding,
    FindingReview,
    Handover,
    Image,
    Import,
    ImportFile,
    ImportGroup,
    Study,
)
from studies.permissions import grant_study
from studies.reviewing import Judgement, add_finding
from tests.api_table import API_LAST, API_PICTURES_OF_THE_ANSWER, API_TABLE
from tests.factories import (
    AdministratorFactory,
    AnalysisFactory,
    DoctorFactory,
    HospitalFactory,
    ImageFactory,
    OwnStudyFactory,
    PatientFactory,
    ReportFactory,
    ReportTemplateFactory,
    StudyFactory,
    UserFactory,
    outline_png,
)
from tests.model_folders import first_champion, registered

ROLES = (
    "anonymous",
    "patient",  # whose record it is
    "other patient",  # of the same hospital
    "doctor",  # who made the study and may change it
    "reader",  # a doctor of the same hospital who may read it
    "colleague",  # a doctor of the same hospital without any grant
    "stranger",  # a doctor of another hospital who once got a grant that must not count
    "waiting",  # a doctor of the same hospital whom nobody has approved
    "administrator",  # of the same hospital
    "foreign administrator",
    "superuser",
)
DOCTORS = ("doctor", "reader", "colleague", "stranger")
PATIENTS = ("patient", "other patient")
ADMINISTRATORS = ("administrator", "foreign administrator", "superuser")
LOGIN = "log-in"  # a redirect to the log-in page, or to the administration's, which leads there too
Answers = dict[str, int | str]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One request, and what each role gets for it."""

    name: str
    answers: Answers
    method: str = "get"
    target: Callable[["World"], dict[str, Any]] = lambda world: {}
    data: dict[str, str] | Callable[["World"], dict[str, str]] = field(default_factory=dict)
    # Sent as JSON instead of a form.
    body: dict[str, Any] | Callable[["World"], dict[str, Any]] | None = None
    state: str = ""

    def __str__(self) -> str:
        return f"{self.method.upper()} {self.name} {self.state}".strip()


@dataclass(frozen=True, kw_only=True)
class World:
    """One hospital with everything in it, and people from elsewhere."""

    people: dict[str, User]
    study: Study
    image: Image
    done: Analysis
    finding: Finding
    added: FindingReview
    queued: Analysis
    failed: Analysis
    draft: Report
    signed: Report
    released: Report
    template: ReportTemplate
    job: BulkJob
    unreported: Study
    batch: Import
    group: ImportGroup
    own: Study
    data: BulkJob
    wish: ErasureRequest
    asked: Handover
    event: AccessEvent
    emergency: AccessEvent
    logged: Event
    line: ImportFile
    link: ShareLink
    token: str
    version: ModelVersion

    def target_of(self, model: str) -> Any:
        """Return the primary key of a row for the administration's pages of one model."""
        return {
            "accounts_user": self.people["reader"].pk,
            "accounts_hospital": self.people["doctor"].hospital_id,
            "accounts_accessevent": self.event.pk,
            "accounts_emergencyaccess": self.emergency.pk,
            "studies_patient": self.study.patient_id,
            "studies_study": self.study.pk,
            "studies_image": self.image.pk,
            "studies_analysis": self.done.pk,
            "studies_finding": self.finding.pk,
            "studies_import": self.line.batch_id,
            "studies_importfile": self.line.pk,
            "ml_modelversion": self.version.pk,
            "ml_deployment": Deployment.objects.get().pk,
            "reports_report": self.released.pk,
            "ml_event": self.logged.pk,
            "reports_reporttemplate": self.template.pk,
            "auth_group": Group.objects.get().pk,
        }.get(model, 0)


@pytest.fixture
def world(db: None) -> World:
    """Build the hospital through the real acts of its people."""
    hospital = HospitalFactory()
    people = {
        "patient": UserFactory(),
        "other patient": UserFactory(),
        "doctor": DoctorFactory(hospital=hospital),
        "reader": DoctorFactory(hospital=hospital),
        "colleague": DoctorFactory(hospital=hospital),
        "stranger": DoctorFactory(hospital=hospital),
        "waiting": DoctorFactory(hospital=hospital, approved_at=None),
        "administrator": AdministratorFactory(hospital=hospital),
        "foreign administrator": AdministratorFactory(),
        "superuser": User.objects.create_superuser(
            "root@example.org", "a-long-password", given_name="R", family_name="R"
        ),
    }
    create_roles()
    doctor = people["doctor"]
    patient = PatientFactory(created_by=doctor, user=people["patient"])
    ReportFactory(
        study=StudyFactory(created_by=doctor, patient=PatientFactory(created_by=doctor, user=people["other patient"])),
        is_released=True,
    )

    def study() -> Study:
        made = StudyFactory(created_by=doctor, patient=patient)
        grant_study(made, to=people["reader"], can_change=False)
        grant_study(made, to=people["stranger"], can_change=True)
        return made

    batch = Import.objects.create(hospital=hospital, created_by=doctor, study_date="2026-03-09")
    group = ImportGroup.objects.create(batch=batch, key="k", study_date="2026-03-09", question="Whose is it?")
    ImportFile.objects.create(batch=batch, position=0, name="a.png", state=ImportFile.State.ASKED, group=group)
    shown = study()
    unreported = study()
    image = ImageFactory(study=shown)
    done = AnalysisFactory(image=image, is_done=True)
    released = ReportFactory(study=study(), is_released=True)
    first_champion()
    link, token = ShareLink.issue(released, by=people["patient"], recipient_email="reader@example.org", days=7)
    made = World(
        people=people,
        study=shown,
        image=image,
        done=done,
        finding=done.findings.get(),
        added=add_finding(image, by=doctor, judgement=Judgement(verdict="added", outline=outline_png())),
        queued=AnalysisFactory(image=ImageFactory(study=shown)),
        failed=AnalysisFactory(image=ImageFactory(study=shown), has_failed=True),
        draft=ReportFactory(study=study()),
        signed=ReportFactory(study=study(), is_signed=True),
        released=released,
        template=ReportTemplateFactory(hospital=hospital),
        job=BulkJob.objects.start(kind="pdf", studies=[], by=doctor),
        unreported=unreported,
        batch=batch,
        group=group,
        own=OwnStudyFactory(created_by=people["patient"], is_done=True),
        data=BulkJob.objects.start(kind="my_data", studies=[], by=people["patient"]),
        wish=ErasureRequest.ask(patient, by=people["patient"]),
        asked=Handover.request(OwnStudyFactory(created_by=people["patient"]), hospital=hospital, by=people["patient"]),
        line=ImportFile.objects.create(
            batch=Import.objects.create(hospital=hospital, created_by=doctor, study_date=shown.study_date),
            position=1,
            name="slice.png",
        ),
        event=AccessEvent.objects.create(
            actor=doctor, action="viewed", target_type="studies.study", target_id=shown.pk
        ),
        emergency=AccessEvent.objects.create(
            actor=people["reader"], action="emergency", target_type="studies.patient", target_id=patient.pk
        ),
        logged=Event.objects.create(
            kind="inference", message="Answered.", study_id=shown.pk, hospital_id=doctor.hospital_id
        ),
        link=link,
        token=token,
        version=registered("v2"),
    )
    AnalysisFactory(image=ImageFactory(study=unreported), is_done=True)
    automatic_report_of(made.own)
    run_bulk_job(str(made.data.pk))
    # A job with the archive of one released report.
    BulkLine.objects.create(job=made.job, study=made.released.study, number=1)
    run_bulk_job(str(made.job.pk))
    # The stranger worked here once and has moved: the grants are still stored and must not count any more.
    stranger = people["stranger"]
    stranger.hospital = HospitalFactory()
    stranger.approved_at = timezone.now()
    stranger.save()
    return made


def everybody(status: int | str, **others: int | str) -> Answers:
    """The same answer for all, log-in or not, but for the roles named (with ``_`` for a blank)."""
    return dict.fromkeys(ROLES, status) | {role.replace("_", " "): answer for role, answer in others.items()}


def logged_in(status: int, **others: int | str) -> Answers:
    """The same answer for everybody who is logged in; the log-in page for the rest."""
    return everybody(status, **({"anonymous": LOGIN} | others))


def nobody_but(roles: tuple[str, ...], status: int, **others: int | str) -> Answers:
    """One answer for some roles, "does not exist" for all others, the log-in page for anonymous people."""
    return logged_in(404, **others) | dict.fromkeys(roles, status)


def study(world: World) -> dict[str, Any]:
    return {"study_id": world.study.pk}


def batch(world: World) -> dict[str, Any]:
    return {"import_id": world.batch.pk}


def group(world: World) -> dict[str, Any]:
    return {"group_id": world.group.pk}


def own(world: World) -> dict[str, Any]:
    return {"study_id": world.own.pk}


def asked(world: World) -> dict[str, Any]:
    return {"handover_id": world.asked.pk}


def training_run(world: World) -> dict[str, Any]:
    return {"run_id": TrainingRun.objects.begin(name="all").id}


def wish(world: World) -> dict[str, Any]:
    return {"wish_id": world.wish.pk}


def patient(world: World) -> dict[str, Any]:
    return {"patient_id": world.study.patient_id}


def image(world: World) -> dict[str, Any]:
    return {"image_id": world.image.pk}


def done(world: World) -> dict[str, Any]:
    return {"analysis_id": world.done.pk}


def lesion(world: World) -> dict[str, Any]:
    return {"lesion_id": world.finding.pk}


def queued(world: World) -> dict[str, Any]:
    return {"analysis_id": world.queued.pk}


def failed(world: World) -> dict[str, Any]:
    return {"analysis_id": world.failed.pk}


def draft(world: World) -> dict[str, Any]:
    return {"report_id": world.draft.pk}


def signed(world: World) -> dict[str, Any]:
    return {"report_id": world.signed.pk}


def released(world: World) -> dict[str, Any]:
    return {"report_id": world.released.pk}


def link(world: World) -> dict[str, Any]:
    return {"link_id": world.link.pk}


def token(world: World) -> dict[str, Any]:
    return {"token": world.token}


def hospital_watched(world: World) -> dict[str, Any]:
    return {"hospital_id": world.people["doctor"].hospital_id}


OWNER = nobody_but(("patient",), 200)
OWNER_ACTS = nobody_but(("patient",), 302)
OF_THE_HOSPITAL = ("doctor", "reader", "colleague")
READERS = ("doctor", "reader")
READ = nobody_but(READERS, 200)
CHANGE = nobody_but(("doctor",), 200, reader=403)
CHANGED = nobody_but(("doctor",), 302, reader=403)
NOWHERE = logged_in(404)
POST_ONLY = logged_in(405)

TABLE = [
    *[Question(**line) for line in API_TABLE],
    # the door
    Question(name="home", answers=logged_in(302, waiting=200) | dict.fromkeys(DOCTORS, 200)),
    Question(name="healthz", answers=everybody(200)),
    # For a program with the installation's token, which no session replaces (tests/portal/test_metrics.py).
    Question(name="metrics", answers=everybody(404)),
    # No worker runs here, so the installation is not ready, and its web process is.
    Question(name="readyz", answers=everybody(503)),
    Question(name="readyz_web", answers=everybody(200)),
    Question(name="access_history", answers=nobody_but(PATIENTS, 200)),
    Question(name="erasure_mine", answers=nobody_but(PATIENTS, 200)),
    Question(name="teaching", answers=nobody_but(PATIENTS, 200)),
    Question(name="teaching_change", target=patient, answers=POST_ONLY),
    Question(name="teaching_change", method="post", target=patient, answers=nobody_but(("patient",), 302)),
    Question(name="erasure_ask", target=patient, answers=POST_ONLY),
    Question(name="erasure_ask", method="post", target=patient, answers=nobody_but(("patient",), 302)),
    Question(name="erasure_withdraw", target=wish, answers=POST_ONLY),
    Question(name="erasure_withdraw", method="post", target=wish, answers=nobody_but(("patient",), 302)),
    Question(name="worth_judging", answers=nobody_but(DOCTORS, 200)),
    Question(name="training_list", answers=nobody_but(("superuser",), 200)),
    Question(name="training_ask", answers=POST_ONLY),
    Question(name="training_ask", method="post", answers=nobody_but(("superuser",), 302)),
    Question(name="training", target=training_run, answers=nobody_but(("superuser",), 200)),
    Question(name="training_progress", target=training_run, answers=nobody_but(("superuser",), 200)),
    Question(name="training_stop", target=training_run, answers=POST_ONLY),
    Question(name="training_stop", method="post", target=training_run, answers=nobody_but(("superuser",), 302)),
    Question(name="monitoring", answers=nobody_but(("administrator", "foreign administrator"), 302, superuser=200)),
    *[
        Question(name=name, target=hospital_watched, answers=nobody_but(("administrator", "superuser"), 200))
        for name in ("monitoring_hospital", "monitoring_json", "monitoring_csv")
    ],
    Question(name="monitoring_baseline", target=hospital_watched, answers=POST_ONLY),
    Question(
        name="monitoring_baseline",
        method="post",
        target=hospital_watched,
        data={"reason": "A new scanner"},
        answers=nobody_but(("administrator", "superuser"), 302),
    ),
    Question(name="erasure_list", answers=nobody_but(("administrator", "foreign administrator", "superuser"), 200)),
    Question(name="erasure_decide", target=wish, answers=nobody_but(("administrator", "superuser"), 200)),
    Question(
        name="erasure_decide",
        method="post",
        target=wish,
        state="empty",
        answers=nobody_but(("administrator", "superuser"), 400),
    ),
    Question(
        name="erasure_decide",
        method="post",
        target=wish,
        state="refused",
        data={"decision": "refuse", "reason": "Not yet."},
        answers=nobody_but(("administrator", "superuser"), 302),
    ),
    # figures: a hospital's for its doctors and administrators, what went wrong for administrators
    Question(name="dashboard:quality", answers=nobody_but((*DOCTORS, *ADMINISTRATORS), 200)),
    *[
        Question(
            name="dashboard:page",
            target=lambda world, name=name: {"name": name},  # type: ignore[misc]
            state=name,
            answers=nobody_but((*DOCTORS, *ADMINISTRATORS), 200),
        )
        for name in PAGES
    ],
    Question(
        name="dashboard:table",
        target=lambda world: {"name": "speed", "panel": "durations"},
        answers=nobody_but((*DOCTORS, *ADMINISTRATORS), 200),
    ),
    Question(
        name="dashboard:table",
        target=lambda world: {"name": "speed", "panel": "uploads"},
        state="of another page",
        answers=NOWHERE,
    ),
    Question(name="dashboard:problems", answers=nobody_but(ADMINISTRATORS, 200)),
    Question(name="dashboard:problems_table", answers=nobody_but(ADMINISTRATORS, 200)),
    # people
    Question(name="accounts:profile", answers=logged_in(200)),
    Question(name="accounts:doctor_signup", answers=everybody(302, anonymous=200)),
    Question(name="account_signup", answers=everybody(302, anonymous=200)),
    Question(name="account_login", answers=everybody(302, anonymous=200)),
    Question(name="accounts:set_language", answers=everybody(405)),
    Question(name="accounts:set_language", method="post", data={"language": "de"}, answers=everybody(302)),
    Question(name="account_logout", answers=everybody(200, anonymous=302)),
    Question(name="account_logout", method="post", answers=everybody(302)),
    Question(name="account_inactive", answers=everybody(200)),
    Question(name="account_reauthenticate", answers=logged_in(200)),
    Question(name="account_email", answers=logged_in(200)),
    Question(name="account_email_verification_sent", answers=everybody(200)),
    Question(name="account_confirm_email", target=lambda world: {"key": "no-such-key"}, answers=everybody(200)),
    Question(name="account_change_password", answers=logged_in(200)),
    Question(name="account_set_password", answers=logged_in(302)),
    Question(name="account_reset_password", answers=everybody(200)),
    Question(name="account_reset_password_done", answers=everybody(200)),
    Question(
        name="account_reset_password_from_key",
        target=lambda world: {"uidb36": "1", "key": "no-such-key"},
        answers=everybody(200),
    ),
    Question(name="account_reset_password_from_key_done", answers=everybody(200)),
    Question(name="account_confirm_login_code", answers=everybody(302, anonymous=LOGIN)),
    Question(name="accounts:api_tokens", answers=logged_in(200)),
    # Whoever is logged in has to prove it once more before a token is made.
    Question(name="accounts:api_tokens", method="post", state="empty", answers=logged_in(302)),
    Question(name="accounts:sessions", answers=logged_in(200)),
    Question(name="accounts:sessions", method="post", data={"end": "all"}, state="all", answers=everybody(LOGIN)),
    # the second step; nobody here has set one up
    Question(name="mfa_index", answers=logged_in(200)),
    Question(name="mfa_authenticate", answers=everybody(302, anonymous=LOGIN)),
    Question(name="mfa_reauthenticate", answers=logged_in(302)),
    Question(name="mfa_activate_totp", answers=logged_in(302)),
    Question(name="mfa_deactivate_totp", answers=logged_in(404)),
    Question(name="mfa_view_recovery_codes", answers=logged_in(404)),
    Question(name="mfa_generate_recovery_codes", answers=logged_in(302)),
    Question(name="mfa_download_recovery_codes", answers=logged_in(404)),
    Question(name="mfa_list_webauthn", answers=logged_in(200)),
    Question(name="mfa_add_webauthn", answers=logged_in(302)),
    Question(name="mfa_reauthenticate_webauthn", answers=logged_in(302)),
    Question(name="mfa_remove_webauthn", target=lambda world: {"pk": 1}, answers=logged_in(302)),
    Question(name="mfa_edit_webauthn", target=lambda world: {"pk": 1}, answers=logged_in(302)),
    Question(name="mfa_login_webauthn", answers=everybody(302, anonymous=LOGIN)),
    # patients and studies
    Question(name="studies:study_list", answers=nobody_but(DOCTORS, 200)),
    Question(name="studies:study_rows", answers=nobody_but(DOCTORS, 204)),
    Question(name="studies:study_mark", answers=POST_ONLY),
    Question(name="studies:study_mark", method="post", state="nothing chosen", answers=nobody_but(DOCTORS, 302)),
    Question(name="studies:study_retry", answers=POST_ONLY),
    Question(name="studies:study_retry", method="post", state="nothing chosen", answers=nobody_but(DOCTORS, 302)),
    Question(name="studies:study_create", answers=nobody_but(DOCTORS, 200)),
    Question(name="studies:patient_find", answers=nobody_but(DOCTORS, 200)),
    Question(name="studies:study_create", method="post", state="empty", answers=nobody_but(DOCTORS, 400)),
    Question(name="studies:study_detail", target=study, answers=READ),
    Question(name="studies:study_status", target=study, answers=READ),
    Question(name="studies:study_read", target=study, answers=READ),
    Question(name="studies:study_read_panel", target=study, answers=READ),
    Question(name="studies:image_add", target=study, answers=CHANGE),
    Question(
        name="studies:image_add",
        method="post",
        target=study,
        state="empty",
        answers=nobody_but(("doctor",), 400, reader=403),
    ),
    Question(name="studies:study_share", target=study, answers=CHANGE),
    Question(
        name="studies:study_share",
        method="post",
        target=study,
        state="empty",
        answers=nobody_but(("doctor",), 400, reader=403),
    ),
    Question(name="studies:image_file", target=image, answers=READ),
    Question(name="studies:analysis_overlay", target=done, answers=READ),
    Question(name="studies:analysis_overlay", target=queued, state="queued", answers=NOWHERE),
    Question(name="studies:analysis_mask", target=done, answers=READ),
    Question(name="studies:analysis_mask", target=failed, state="failed", answers=NOWHERE),
    Question(name="studies:analysis_activation", target=done, answers=READ),
    Question(name="studies:analysis_activation", target=failed, state="failed", answers=NOWHERE),
    # what doctors say
    Question(name="studies:reading", target=study, answers=READ),
    Question(name="studies:first_impression", target=study, answers=READ),
    Question(
        name="studies:first_impression", method="post", target=study, state="empty", answers=nobody_but(READERS, 400)
    ),
    Question(
        name="studies:first_impression",
        method="post",
        target=study,
        state="filled in",
        data={"diagnosis": "unsure", "suspicion": "3"},
        answers=nobody_but(READERS, 302),
    ),
    Question(name="studies:finding_reviews", target=lesion, answers=CHANGE),
    Question(
        name="studies:finding_reviews", method="post", target=lesion, data={"verdict": "accepted"}, answers=CHANGED
    ),
    Question(
        name="studies:finding_reviews",
        method="post",
        target=lambda world: {"lesion_id": world.added.lesion_id},
        state="added, seen by nobody",
        data={"verdict": "rejected"},
        answers=nobody_but(("doctor",), 409, reader=403),
    ),
    Question(name="studies:image_reviews", target=image, answers=CHANGE),
    Question(name="studies:image_reviews", method="post", target=image, data={"diagnosis": "normal"}, answers=CHANGED),
    Question(name="studies:finding_outline", target=lambda world: {"finding_id": world.finding.pk}, answers=READ),
    Question(name="studies:image_judged", target=image, answers=READ),
    Question(name="studies:review_outline", target=lambda world: {"review_id": world.added.pk}, answers=READ),
    Question(name="studies:analysis_rerun", target=done, answers=POST_ONLY),
    Question(name="studies:analysis_rerun", method="post", target=done, state="done", answers=CHANGED),
    Question(name="studies:analysis_rerun", method="post", target=failed, state="failed", answers=CHANGED),
    Question(name="studies:analysis_rerun", method="post", target=queued, state="queued", answers=CHANGED),
    Question(name="studies:analysis_cancel", target=queued, answers=POST_ONLY),
    Question(name="studies:analysis_cancel", method="post", target=queued, state="queued", answers=CHANGED),
    Question(name="studies:analysis_cancel", method="post", target=done, state="done", answers=CHANGED),
    Question(name="studies:patient_list", answers=nobody_but(DOCTORS, 200)),
    Question(name="studies:patient_create", answers=nobody_but(DOCTORS, 200)),
    Question(name="studies:patient_create", method="post", state="empty", answers=nobody_but(DOCTORS, 400)),
    Question(name="studies:patient_detail", target=patient, answers=READ),
    Question(name="studies:patient_edit", target=patient, answers=CHANGE),
    Question(
        name="studies:patient_edit",
        method="post",
        target=patient,
        state="empty",
        answers=nobody_but(("doctor",), 400, reader=403),
    ),
    Question(name="studies:patient_invite", target=patient, answers=POST_ONLY),
    Question(name="studies:patient_invite", method="post", target=patient, answers=CHANGED),
    Question(
        name="studies:claim_invitation",
        target=lambda world: {"token": "no-such-token"},
        answers=nobody_but(PATIENTS, 410, anonymous=410),
    ),
    # what a patient uploads alone, before and after it is handed to a hospital
    Question(name="studies:own_list", answers=nobody_but(PATIENTS, 200)),
    Question(name="studies:own_create", answers=nobody_but(PATIENTS, 200)),
    Question(name="studies:own_create", method="post", state="empty", answers=nobody_but(PATIENTS, 400)),
    *[
        Question(name=f"studies:{name}", target=target, state=state, answers=OWNER)
        for name in ("own_study", "own_study_status", "own_picture", "own_handover", "own_delete")
        for state, target in (("own", own), ("asked", lambda world: {"study_id": world.asked.study_id}))
    ],
    *[
        # Nothing of it is a study to any doctor, whether or not a hospital was asked.
        Question(name=f"studies:{name}", target=target, state=state, answers=NOWHERE)
        for name in ("study_detail", "study_status", "study_read", "reading", "study_share", "image_add")
        for state, target in (("own", own), ("asked", lambda world: {"study_id": world.asked.study_id}))
    ],
    Question(
        name="studies:image_file",
        target=lambda world: {"image_id": world.asked.study.images.get().pk},
        state="asked",
        answers=NOWHERE,
    ),
    Question(
        name="studies:patient_detail",
        target=lambda world: {"patient_id": world.asked.study.patient_id},
        state="asked",
        answers=NOWHERE,
    ),
    Question(
        name="studies:own_handover", method="post", target=own, state="empty", answers=nobody_but(("patient",), 400)
    ),
    Question(name="studies:own_delete", method="post", target=own, state="own", answers=OWNER_ACTS),
    Question(name="studies:own_retry", target=own, answers=POST_ONLY),
    Question(name="studies:own_retry", method="post", target=own, state="done", answers=OWNER_ACTS),
    Question(name="studies:own_withdraw", target=own, answers=POST_ONLY),
    Question(name="studies:own_withdraw", method="post", target=own, state="not asked", answers=OWNER_ACTS),
    Question(
        name="studies:own_withdraw",
        method="post",
        target=lambda world: {"study_id": world.asked.study_id},
        state="asked",
        answers=OWNER_ACTS,
    ),
    Question(name="studies:handover_list", answers=nobody_but(DOCTORS, 200)),
    Question(name="studies:handover_take", target=asked, answers=nobody_but(OF_THE_HOSPITAL, 200)),
    Question(
        name="studies:handover_take",
        method="post",
        target=asked,
        state="with a number",
        data={"record_number": "NEW-1"},
        answers=nobody_but(OF_THE_HOSPITAL, 302),
    ),
    Question(name="studies:handover_decline", target=asked, answers=POST_ONLY),
    Question(
        name="studies:handover_decline",
        method="post",
        target=asked,
        state="empty",
        answers=nobody_but(OF_THE_HOSPITAL, 400),
    ),
    Question(name="reports:my_data", answers=nobody_but(PATIENTS, 200)),
    Question(
        name="reports:my_data_archive",
        target=lambda world: {"job_id": world.data.pk},
        answers=nobody_but(("patient",), 200),
    ),
    Question(
        name="reports:my_data_archive",
        target=lambda world: {"job_id": world.job.pk},
        state="a doctor's archive",
        answers=NOWHERE,
    ),
    Question(
        name="reports:bulk_archive",
        target=lambda world: {"job_id": world.data.pk},
        state="a patient's data",
        answers=NOWHERE,
    ),
    # Last, because it deletes the archive from the disk.
    Question(name="reports:my_data", method="post", answers=nobody_but(PATIENTS, 302)),
    Question(name="reports:glossary", answers=logged_in(200)),
    Question(name="reports:automatic_report", target=own, answers=OWNER),
    Question(name="reports:automatic_pdf", target=own, answers=OWNER),
    Question(name="reports:automatic_overlay", target=own, answers=OWNER),
    Question(
        name="reports:automatic_report",
        target=lambda world: {"study_id": world.asked.study_id},
        state="no answer yet",
        answers=OWNER_ACTS,
    ),
    Question(name="studies:emergency_access", answers=nobody_but(DOCTORS, 200)),
    Question(name="studies:emergency_access", method="post", state="empty", answers=nobody_but(DOCTORS, 400)),
    Question(
        name="studies:emergency_access",
        method="post",
        data=lambda world: {
            "record_number": world.study.patient.record_number,
            "birth_date": f"{world.study.patient.birth_date:%Y-%m-%d}",
            "reason": "Unconscious, and nobody of the ward can be reached.",
        },
        state="with a reason",
        answers=nobody_but(("doctor", "reader", "colleague"), 302, stranger=400),
    ),
    # imports: nobody's but the doctor's who sent them
    Question(name="studies:import_list", answers=nobody_but(DOCTORS, 200)),
    Question(name="studies:import_create", answers=nobody_but(DOCTORS, 200)),
    Question(name="studies:import_create", method="post", state="empty", answers=nobody_but(DOCTORS, 400)),
    Question(name="studies:import_detail", target=batch, answers=nobody_but(("doctor",), 200)),
    Question(name="studies:import_status", target=batch, answers=nobody_but(("doctor",), 200)),
    Question(name="studies:import_files", target=batch, answers=POST_ONLY),
    Question(
        name="studies:import_files", method="post", target=batch, state="empty", answers=nobody_but(("doctor",), 400)
    ),
    Question(name="studies:import_start", target=batch, answers=POST_ONLY),
    Question(name="studies:import_start", method="post", target=batch, answers=nobody_but(("doctor",), 302)),
    Question(name="studies:import_discard", target=batch, answers=POST_ONLY),
    Question(name="studies:import_discard", method="post", target=batch, answers=nobody_but(("doctor",), 302)),
    Question(name="studies:import_answer", target=group, answers=nobody_but(("doctor",), 200)),
    Question(
        name="studies:import_answer",
        method="post",
        target=group,
        state="empty",
        answers=nobody_but(("doctor",), 400),
    ),
    Question(name="studies:claim_record", answers=nobody_but(PATIENTS, 200)),
    Question(
        name="studies:claim_record",
        method="post",
        state="of somebody else",
        data={"record_number": "R-1", "birth_date": "1960-05-17"},
        answers=nobody_but(PATIENTS, 400),
    ),
    # reports
    Question(name="reports:report_list", answers=nobody_but(DOCTORS, 200)),
    Question(name="reports:my_reports", answers=nobody_but(PATIENTS, 200)),
    Question(name="reports:my_report", target=released, state="released", answers=nobody_but(("patient",), 200)),
    Question(name="reports:my_report", target=signed, state="signed", answers=NOWHERE),
    Question(name="reports:my_report", target=draft, state="draft", answers=NOWHERE),
    # a report shown to somebody outside: whose link it is, and what the link opens for everybody who has no code
    Question(name="reports:report_share", target=released, state="released", answers=nobody_but(("patient",), 200)),
    Question(name="reports:report_share", target=signed, state="signed", answers=NOWHERE),
    Question(name="reports:report_share", target=draft, state="draft", answers=NOWHERE),
    Question(
        name="reports:report_share",
        method="post",
        target=released,
        data={"email": "reader@example.org", "days": "7"},
        state="filled in",
        answers=nobody_but(("patient",), 302),
    ),
    Question(name="reports:share_list", answers=nobody_but(PATIENTS, 200)),
    Question(name="reports:share_revoke", target=link, answers=POST_ONLY),
    Question(name="reports:share_revoke", method="post", target=link, answers=nobody_but(("patient",), 302)),
    Question(name="reports:share_open", target=token, state="open", answers=everybody(200)),
    Question(
        name="reports:share_open",
        method="post",
        target=token,
        data={"code": "12345678"},
        state="wrong code",
        answers=everybody(400),
    ),
    Question(
        name="reports:share_open",
        method="post",
        target=token,
        data={"send": "code"},
        state="code asked for",
        answers=everybody(302),
    ),
    Question(
        name="reports:share_open",
        target=lambda world: {"token": "no-such-token"},
        state="guessed",
        answers=everybody(404),
    ),
    Question(name="reports:shared_report", target=link, state="without the code", answers=everybody(404)),
    Question(name="reports:shared_pdf", target=link, state="without the code", answers=everybody(404)),
    *[
        Question(
            name=f"reports:shared_{picture}",
            target=lambda world: {"link_id": world.link.pk, "number": 1},
            state="without the code",
            answers=everybody(404),
        )
        for picture in ("slice", "overlay")
    ],
    Question(name="reports:report_create", target=lambda world: {"study_id": world.unreported.pk}, answers=POST_ONLY),
    Question(
        name="reports:report_create",
        method="post",
        target=lambda world: {"study_id": world.unreported.pk},
        state="unreported",
        answers=CHANGED,
    ),
    Question(
        name="reports:report_create",
        method="post",
        target=lambda world: {"study_id": world.draft.study_id},
        state="with a draft",
        answers=CHANGED,
    ),
    Question(name="reports:report_detail", target=draft, state="draft", answers=READ),
    Question(name="reports:report_detail", target=signed, state="signed", answers=READ),
    Question(
        name="reports:report_detail", target=released, state="released", answers=nobody_but(READERS, 200, patient=302)
    ),
    Question(
        name="reports:report_detail",
        method="post",
        target=draft,
        state="draft",
        data={"revision": "1", "findings_text": "A", "impression": "B"},
        answers=CHANGED,
    ),
    Question(
        name="reports:report_detail",
        method="post",
        target=signed,
        state="signed",
        data={"revision": "1", "findings_text": "A", "impression": "B"},
        answers=nobody_but(("doctor",), 409, reader=403),
    ),
    Question(
        name="reports:report_detail",
        method="post",
        target=released,
        state="released",
        data={"revision": "1", "findings_text": "A", "impression": "B"},
        answers=nobody_but(("doctor",), 409, reader=403, patient=302),
    ),
    Question(name="reports:report_sign", target=draft, state="draft", answers=CHANGE),
    Question(
        name="reports:report_sign",
        method="post",
        target=draft,
        state="draft, unconfirmed",
        answers=nobody_but(("doctor",), 400, reader=403),
    ),
    Question(name="reports:report_sign", method="post", target=signed, state="signed", answers=CHANGED),
    Question(name="reports:report_sign", method="post", target=released, state="released", answers=CHANGED),
    Question(name="reports:report_release", target=signed, answers=POST_ONLY),
    Question(name="reports:report_release", method="post", target=draft, state="draft", answers=CHANGED),
    Question(name="reports:report_release", method="post", target=signed, state="signed", answers=CHANGED),
    Question(name="reports:report_release", method="post", target=released, state="released", answers=CHANGED),
    *[
        question
        for kind in ("draft", "pdf")
        for question in (
            Question(name=f"reports:bulk_{kind}", answers=POST_ONLY),
            Question(name=f"reports:bulk_{kind}", method="post", state="empty", answers=nobody_but(DOCTORS, 302)),
            Question(
                name=f"reports:bulk_{kind}",
                method="post",
                data=lambda world: {"studies": str(world.study.pk)},
                state="one study",
                answers=nobody_but(READERS, 302),
            ),
        )
    ],
    Question(
        name="reports:bulk_job", target=lambda world: {"job_id": world.job.pk}, answers=nobody_but(("doctor",), 200)
    ),
    Question(
        name="reports:bulk_archive", target=lambda world: {"job_id": world.job.pk}, answers=nobody_but(("doctor",), 200)
    ),
    Question(name="reports:report_state", target=draft, state="draft", answers=CHANGE),
    Question(name="reports:report_state", target=released, state="released", answers=CHANGE),
    Question(name="reports:report_addendum", target=draft, state="draft", answers=CHANGED),
    Question(name="reports:report_addendum", target=signed, state="signed", answers=CHANGE),
    Question(name="reports:report_addendum", target=released, state="released", answers=CHANGE),
    Question(
        name="reports:report_addendum",
        method="post",
        target=signed,
        state="empty",
        answers=nobody_but(("doctor",), 400, reader=403),
    ),
    Question(name="reports:report_discard", target=draft, state="draft", answers=CHANGE),
    Question(name="reports:report_discard", target=signed, state="signed", answers=CHANGED),
    Question(name="reports:report_discard", target=released, state="released", answers=CHANGED),
    Question(
        name="reports:report_discard",
        method="post",
        target=draft,
        state="draft, without a revision",
        answers=nobody_but(("doctor",), 400, reader=403),
    ),
    Question(
        name="reports:report_discard",
        method="post",
        target=draft,
        state="draft, an older text",
        data={"revision": "7"},
        answers=nobody_but(("doctor",), 409, reader=403),
    ),
    Question(
        name="reports:report_discard",
        method="post",
        target=draft,
        state="draft",
        data={"revision": "1"},
        answers=CHANGED,
    ),
    Question(
        name="reports:report_discard",
        method="post",
        target=signed,
        state="signed",
        data={"revision": "1"},
        answers=CHANGED,
    ),
    Question(name="reports:report_amend", target=draft, state="draft", answers=CHANGED),
    Question(name="reports:report_amend", target=signed, state="signed", answers=CHANGE),
    Question(name="reports:report_amend", target=released, state="released", answers=CHANGE),
    Question(
        name="reports:report_amend",
        method="post",
        target=released,
        state="empty",
        answers=nobody_but(("doctor",), 400, reader=403),
    ),
    Question(
        name="reports:report_amend",
        method="post",
        target=released,
        state="with a reason",
        data={"reason": "The side was wrong."},
        answers=CHANGED,
    ),
    Question(name="reports:report_pdf", target=draft, state="draft", answers=NOWHERE),
    Question(name="reports:report_pdf", target=signed, state="signed", answers=READ),
    Question(
        name="reports:report_pdf", target=released, state="released", answers=nobody_but((*READERS, "patient"), 200)
    ),
    *[
        Question(
            name=f"reports:report_{picture}",
            target=lambda world, report=report, number=number: {  # type: ignore[misc]
                "report_id": getattr(world, report).pk,
                "number": number,
            },
            state=f"{report}, slice {number}",
            answers=NOWHERE
            if number == 99
            else nobody_but((*READERS, "patient") if report == "released" else READERS, 200),
        )
        for picture in ("slice", "overlay")
        for report in ("draft", "signed", "released")
        for number in (1, 99)
    ],
    *[Question(**line) for line in API_LAST],
]

# Of each page of the administration: what an administrator of the hospital, one of another hospital, and a superuser
# get. Everybody else is led to a log-in that answers 403 to whoever is logged in without being an administrator.
LOOK = (200, 302, 200)  # 302: the row does not exist for them, back to the list
OPEN = (200, 200, 200)
FORBIDDEN = (403, 403, 403)
OWNER = (403, 403, 200)
MISSING = (403, 403, 302)  # no such row
ADMINISTRATION: dict[str, tuple[int, int, int]] = {
    "index": OPEN,
    "login": (302, 302, 302),
    "logout": (405, 405, 405),
    "password_change": OPEN,
    "password_change_done": OPEN,
    "autocomplete": FORBIDDEN,
    "jsi18n": OPEN,
    "view_on_site": (404, 404, 404),
    "app_list": OPEN,
    "accounts_user_changelist": OPEN,
    "accounts_user_add": OPEN,
    "accounts_user_change": LOOK,
    "accounts_user_history": LOOK,
    "accounts_user_delete": FORBIDDEN,
    "accounts_hospital_changelist": OPEN,
    "accounts_hospital_add": OWNER,
    "accounts_hospital_change": LOOK,
    "accounts_hospital_history": LOOK,
    "accounts_hospital_delete": FORBIDDEN,
    "accounts_accessevent_changelist": OPEN,
    "accounts_accessevent_add": FORBIDDEN,
    "accounts_accessevent_change": LOOK,
    "accounts_accessevent_history": LOOK,
    "accounts_accessevent_delete": FORBIDDEN,
    "accounts_emergencyaccess_changelist": OPEN,
    "accounts_emergencyaccess_add": FORBIDDEN,
    "accounts_emergencyaccess_change": LOOK,
    "accounts_emergencyaccess_history": LOOK,
    "accounts_emergencyaccess_delete": FORBIDDEN,
    **{
        f"{model}_{page}": answers
        for model in (
            "studies_patient",
            "studies_study",
            "studies_image",
            "studies_analysis",
            "studies_finding",
            "studies_import",
            "studies_importfile",
            "reports_report",
            "ml_event",
        )
        for page, answers in (
            ("changelist", OPEN),
            ("add", FORBIDDEN),
            ("change", LOOK),
            ("history", LOOK),
            ("delete", FORBIDDEN),
        )
    },
    **{
        f"{model}_{page}": answers
        for model in ("ml_modelversion", "ml_deployment")
        for page, answers in (
            ("changelist", OPEN),
            ("add", FORBIDDEN),
            ("change", OPEN),
            ("history", OPEN),
            ("delete", FORBIDDEN),
        )
    },
    **{f"ml_modelversion_{act}": OWNER for act in ("promote", "challenge", "rollback", "end_challenge")},
    "reports_reporttemplate_changelist": OPEN,
    "reports_reporttemplate_add": OPEN,
    "reports_reporttemplate_change": LOOK,
    "reports_reporttemplate_history": LOOK,
    "reports_reporttemplate_delete": LOOK,
    "auth_group_changelist": OWNER,
    "auth_group_add": OWNER,
    "auth_group_change": OWNER,
    "auth_group_history": OWNER,
    "auth_group_delete": OWNER,
    **{
        f"{model}_{page}": answers
        for model in (
            "account_emailaddress",
            "django_q_schedule",
            "django_q_success",
            "django_q_failure",
            "django_q_ormq",
        )
        for page, answers in (
            ("changelist", OWNER),
            # What the queue has done or holds is looked at; only addresses and schedules are made by hand.
            ("add", OWNER if model in ("account_emailaddress", "django_q_schedule") else FORBIDDEN),
            ("change", MISSING),
            ("history", (302, 302, 302)),
            ("delete", MISSING),
        )
    },
}


READ_ALREADY = ("signed", "released")
PICTURES_OF_THE_ANSWER = (
    "studies:analysis_overlay",
    "studies:analysis_mask",
    "studies:analysis_activation",
    "studies:finding_outline",
    "studies:image_judged",
    "studies:review_outline",
    "reports:report_overlay",
    *API_PICTURES_OF_THE_ANSWER,
)


# They tell of the software in general, in figures that may be like those of an answer.
ABOUT_NO_STUDY = ("api:model", "api:schema", "dashboard:quality", "dashboard:page", "dashboard:table")


def names_of(resolver: URLResolver, namespace: str = "") -> Iterator[str]:
    """Yield the name of every address below a resolver; an address without one as its pattern."""
    for entry in resolver.url_patterns:
        if isinstance(entry, URLResolver):
            inner = f"{namespace}{entry.namespace}:" if entry.namespace else namespace
            yield from names_of(entry, inner)
        elif isinstance(entry, URLPattern) and not (namespace == "admin:" and entry.name is None):
            # Nameless in the administration: a redirect from a row to its page, and "not found" for the rest.
            yield namespace + (entry.name or str(entry.pattern))


def ask(client: Client, question: Question, *, world: World) -> int | str:
    """Return the status of one request, or ``LOGIN`` for a redirect to the log-in page; nothing of it is stored."""
    cache.clear()
    url = reverse(question.name, kwargs=question.target(world))
    with transaction.atomic():
        data = question.data(world) if callable(question.data) else question.data
        body = question.body(world) if callable(question.body) else question.body
        sent = {"data": data} if body is None else {"data": body, "content_type": "application/json"}
        response = getattr(client, question.method)(url, **sent)
        b"".join(response.streaming_content) if response.streaming else response.content
        transaction.set_rollback(True)
    doors = (reverse("account_login"), reverse("admin:login"))
    is_login = response.status_code == 302 and response.url.split("?")[0] in doors
    return LOGIN if is_login and question.name != "account_logout" else response.status_code


def differences(questions: list[Question], *, world: World) -> list[str]:
    """Ask every question as every role; return a line for each answer that is not the expected one."""
    found = []
    for role in ROLES:
        client = Client(raise_request_exception=False)
        if role != "anonymous":
            client.force_login(world.people[role])
        cookies = client.cookies.output()
        for question in questions:
            client.cookies.clear()
            client.cookies.load(cookies.replace("Set-Cookie: ", ""))
            answer = ask(client, question, world=world)
            if answer != question.answers[role]:
                found.append(f"{question} as {role}: {answer} instead of {question.answers[role]}")
    return found


def test_every_address_stands_in_the_table_and_every_line_has_an_address() -> None:
    written = {question.name for question in TABLE} | {f"admin:{name}" for name in ADMINISTRATION}
    existing = set(names_of(get_resolver()))
    assert existing - written == set(), "These addresses are missing from the table."
    assert written - existing == set(), "These lines have no address any more."


def test_every_question_names_every_role() -> None:
    assert [str(question) for question in TABLE if set(question.answers) != set(ROLES)] == []


def test_everybody_gets_exactly_what_the_table_says(world: World) -> None:
    wrong = differences(TABLE, world=world)
    assert not wrong, "\n".join(wrong)


def tells_of_the_answer(body: bytes) -> list[str]:
    """Return what a page says that only the software can have said (see ``tests.factories.answer``)."""
    told = ("test-1", "71%", "82%", "88%", "89%", "0.885", "0.82", "The mean of", "15.6", "Malignant or benign")
    if body.startswith(b"PK"):
        # What is packed says by chance whatever one looks for: its files are asked, and no PDF that is signed.
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            body = b"".join(archive.read(name) for name in archive.namelist() if not name.endswith(".pdf"))
    return [words for words in told if words.encode() in body]


def test_no_page_tells_what_the_software_said_before_the_first_impression(world: World) -> None:
    doctor = world.people["doctor"]
    Hospital.objects.filter(pk=doctor.hospital_id).update(reads_first=True)
    client = Client(raise_request_exception=False)
    client.force_login(doctor)
    wrong, hidden = [], 0
    for question in TABLE:
        # What is signed has been read by somebody: it says the same to everybody.
        if question.method != "get" or question.name == "account_logout" or question.state.startswith(READ_ALREADY):
            continue
        if question.name in ABOUT_NO_STUDY:
            continue
        response = client.get(reverse(question.name, kwargs=question.target(world)), question.data)
        body = b"".join(response.streaming_content) if response.streaming else response.content
        is_picture_of_answer = question.name in PICTURES_OF_THE_ANSWER and question.answers["doctor"] == 200
        hidden += response.status_code == 403
        if is_picture_of_answer and response.status_code not in (403, 404):
            wrong.append(f"{question} sends a picture: {response.status_code}")
        if told := tells_of_the_answer(body):
            wrong.append(f"{question} tells {told}")
    assert not wrong, "\n".join(wrong)
    assert hidden, "Nothing was hidden, so nothing was tested."


def test_the_administration_is_for_administrators(world: World) -> None:
    questions = []
    for name, (administrator, foreign, superuser) in ADMINISTRATION.items():
        model = name.rsplit("_", 1)[0]
        of_a_row = ("change", "history", "delete", "promote", "challenge")
        is_of_none = name in ("password_change", "ml_modelversion_end_challenge")
        needs_row = name.rsplit("_", 1)[-1] in of_a_row and not is_of_none
        kwargs: dict[str, Any] = {}
        if needs_row:
            kwargs = {"object_id": world.target_of(model)}
        elif name == "app_list":
            kwargs = {"app_label": "accounts"}
        elif name == "view_on_site":
            # A row without a page of its own on the site.
            hospital = world.people["doctor"].hospital
            kwargs = {"content_type_id": ContentType.objects.get_for_model(Hospital).pk, "object_id": hospital.pk}
        questions.append(
            Question(
                name=f"admin:{name}",
                target=lambda world, kwargs=kwargs: kwargs,  # type: ignore[misc]
                answers=everybody(
                    # Logging out of the administration leads everybody else back to its start.
                    {"login": 403, "logout": 302}.get(name, LOGIN),
                    anonymous=LOGIN,
                    administrator=administrator,
                    foreign_administrator=foreign,
                    superuser=superuser,
                ),
            )
        )
    wrong = differences(questions, world=world)
    assert not wrong, "\n".join(wrong)
