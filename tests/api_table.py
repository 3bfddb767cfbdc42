"""The API's part of the permission matrix: what each role gets at each address, asked with its session.

Lines are the keyword arguments of ``tests.test_permission_matrix.Question``. Anonymous programs get 401 everywhere.
"""

from collections.abc import Callable
from typing import Any

DOCTORS = ("doctor", "reader", "colleague", "stranger")
READERS = ("doctor", "reader")
PATIENTS = ("patient", "other patient")
OTHERS = ("waiting", "administrator", "foreign administrator", "superuser")
EVERYBODY = (*DOCTORS, *PATIENTS, *OTHERS)
Target = Callable[[Any], dict[str, Any]]
Line = dict[str, Any]


def only(roles: tuple[str, ...], status: int, **others: int) -> dict[str, int | str]:
    """One answer for some roles, "does not exist" for all others, 401 for anonymous programs."""
    answers: dict[str, int | str] = dict.fromkeys(EVERYBODY, 404)
    return answers | {"anonymous": 401} | dict.fromkeys(roles, status) | others


READ = only(READERS, 200)
NOWHERE = only((), 404)
LOGGED_IN = only(EVERYBODY, 200)


def change(status: int) -> dict[str, int | str]:
    """What the doctor gets who may change the study; who may only read it gets 403."""
    return only(("doctor",), status, reader=403)


def get(name: str, answers: dict[str, int | str], target: Target = lambda world: {}, state: str = "") -> Line:
    """One reading question."""
    return {"name": f"api:{name}", "answers": answers, "target": target, "state": state}


def post(
    name: str,
    answers: dict[str, int | str],
    target: Target = lambda world: {},
    *,
    body: Any = None,
    state: str = "",
    method: str = "post",
) -> Line:
    """One question that changes something; ``body`` is sent as JSON."""
    return get(name, answers, target, state) | {"method": method, "body": {} if body is None else body}


def send(name: str, answers: dict[str, int | str], target: Target = lambda world: {}) -> Line:
    """One question that sends a form without any file."""
    return get(name, answers, target, "empty form") | {"method": "post"}


def study(world: Any) -> dict[str, Any]:
    return {"study_id": world.study.pk}


def own(world: Any) -> dict[str, Any]:
    return {"study_id": world.own.pk}


def asked(world: Any) -> dict[str, Any]:
    return {"study_id": world.asked.study_id}


def patient(world: Any) -> dict[str, Any]:
    return {"patient_id": world.study.patient_id}


def image(world: Any) -> dict[str, Any]:
    return {"image_id": world.image.pk}


def done(world: Any) -> dict[str, Any]:
    return {"analysis_id": world.done.pk}


def queued(world: Any) -> dict[str, Any]:
    return {"analysis_id": world.queued.pk}


def failed(world: Any) -> dict[str, Any]:
    return {"analysis_id": world.failed.pk}


def batch(world: Any) -> dict[str, Any]:
    return {"import_id": world.batch.pk}


def group(world: Any) -> dict[str, Any]:
    return {"group_id": world.group.pk}


def lesion(world: Any) -> dict[str, Any]:
    return {"lesion_id": world.finding.pk}


def draft(world: Any) -> dict[str, Any]:
    return {"report_id": world.draft.pk}


def signed(world: Any) -> dict[str, Any]:
    return {"report_id": world.signed.pk}


def released(world: Any) -> dict[str, Any]:
    return {"report_id": world.released.pk}


def unreported(world: Any) -> dict[str, Any]:
    return {"study_id": world.unreported.pk}


def job(world: Any) -> dict[str, Any]:
    return {"job_id": world.job.pk}


def data(world: Any) -> dict[str, Any]:
    return {"job_id": world.data.pk}


NEW_PATIENT = {"record_number": "NEW-7", "family_name": "A", "given_name": "B", "birth_date": "1961-04-12"}

ADMINISTRATORS = ("administrator", "foreign administrator", "superuser")


def version(world: Any) -> dict[str, Any]:
    return {"version_id": world.version.pk}


def by_right(status: int) -> dict[str, int | str]:
    """What whoever may change the model in use gets; other administrators may look only."""
    return only(ADMINISTRATORS, 403) | {"superuser": status}


MODELS = [
    get("models", only(ADMINISTRATORS, 200)),
    get("model_history", only(ADMINISTRATORS, 200)),
    get("model_version", only(ADMINISTRATORS, 200), version),
    post("model_promote", by_right(200), version),
    post("model_promote", by_right(400), version, body={"force": "yes"}, state="wrong"),
    post("model_challenge", by_right(200), version, body={"share": 0.2}),
    post("model_challenge", by_right(400), version, state="empty"),
    post("model_rollback", by_right(409)),
    post("model_challenge_end", by_right(409)),
]
GENERAL = [
    get("health", only(EVERYBODY, 200, anonymous=200)),
    get("schema", LOGGED_IN),
    get("docs", LOGGED_IN | {"anonymous": "log-in"}),
    get("nothing", only((), 404, anonymous=404)),
    get("me", LOGGED_IN),
    get("model", LOGGED_IN),
]
PATIENTS_AND_STUDIES = [
    get("patients", only(DOCTORS, 200)),
    post("patients", only(DOCTORS, 400), state="empty"),
    post("patients", only(DOCTORS, 201), body=NEW_PATIENT, state="filled in"),
    get("patient", READ, patient),
    post("patient", change(200), patient, body={"email": "new@example.org"}, method="patch"),
    post("patient_invitation", change(409), patient, state="of somebody with a log-in"),
    post("patient", only(READERS, 403), patient, body={"teaching": "allowed"}, method="patch", state="with a log-in"),
    post("emergency_access", only(DOCTORS, 400), state="empty"),
    post(
        "emergency_access",
        only(DOCTORS, 400),
        body={"record_number": "R-NONE", "birth_date": "1960-05-17", "reason": "Nobody can be reached on his ward."},
        state="no such record",
    ),
    get("worth_judging", only(DOCTORS, 200)),
    get("colleagues", only(DOCTORS, 200)),
    get("studies", only(DOCTORS, 200)),
    send("studies", only(DOCTORS, 400)),
    get("study", READ, study),
    get("study", NOWHERE, own, "a patient's own"),
    get("study_state", READ, study),
    get("study_state", NOWHERE, own, "a patient's own"),
    send("study_slices", change(400), study),
    get("study_access", change(200), study),
    post("study_access", change(400), study, state="empty"),
    post("study_marks", only(DOCTORS, 400), state="empty"),
    post("study_retries", only(DOCTORS, 400), state="empty"),
    post("study_first_impression", only(READERS, 400), study, state="empty"),
    post(
        "study_first_impression",
        only(READERS, 201),
        study,
        body={"diagnosis": "unsure", "suspicion": 3},
        state="filled in",
    ),
    get("image", READ, image),
    get("image_file", READ, image),
    get("image_judged", READ, image),
    get("image_analyses", READ, image),
    post("image_analyses", change(201), image),
    post("image_findings", change(400), image, state="empty"),
    post("image_findings", change(201), image, body={"diameter_px": 7}, state="a diameter"),
    post("image_class", change(201), image, body={"diagnosis": "normal"}),
    get("analysis", READ, done, "done"),
    get("analysis", READ, queued, "queued"),
    get("analysis", READ, failed, "failed"),
    post("analysis_cancel", change(200), queued, state="queued"),
    post("analysis_cancel", change(409), done, state="done"),
    get("analysis_overlay", READ, done),
    get("analysis_overlay", NOWHERE, queued, "queued"),
    get("analysis_mask", READ, done),
    get("analysis_mask", NOWHERE, failed, "failed"),
    get("analysis_activation", READ, done),
    get("analysis_activation", NOWHERE, failed, "failed"),
    get("finding_reviews", READ, lesion),
    post("finding_reviews", change(201), lesion, body={"verdict": "accepted"}),
    post(
        "finding_reviews",
        change(409),
        lambda world: {"lesion_id": world.added.lesion_id},
        body={"verdict": "rejected"},
        state="added, seen by nobody",
    ),
    get("finding_outline", READ, lambda world: {"finding_id": world.finding.pk}),
    get("review_outline", READ, lambda world: {"review_id": world.added.pk}),
    send("classify", only(DOCTORS, 400)),
    get("imports", only(DOCTORS, 200)),
    post("imports", only(DOCTORS, 400), state="empty"),
    post("imports", only(DOCTORS, 201), body={"study_date": "2026-03-09"}, state="filled in"),
    get("import", only(("doctor",), 200), batch),
    get("import_files", only(("doctor",), 200), batch),
    send("import_files", only(("doctor",), 400), batch),
    post("import_start", only(("doctor",), 202), batch, state="with files"),
    post("import_discard", only(("doctor",), 200), batch, state="with files"),
    post("import_examination", only(("doctor",), 400), group, state="empty"),
    post("import_examination", only(("doctor",), 200), group, body={"leave_out": True}, state="left out"),
]
OF_REPORTS = only((*READERS, "patient"), 200)
REPORTS = [
    get("reports", only((*DOCTORS, *PATIENTS), 200)),
    get("report_templates", only(DOCTORS, 200)),
    post("study_report", change(201), unreported, state="unreported"),
    post("study_report", change(409), lambda world: {"study_id": world.draft.study_id}, state="with a draft"),
    get("report", READ, draft, "draft"),
    get("report", READ, signed, "signed"),
    get("report", OF_REPORTS, released, "released"),
    post("report", change(428), draft, body={"impression": "B"}, method="patch", state="draft, no ETag"),
    post(
        "report",
        change(428) | {"patient": 403},
        released,
        body={"impression": "B"},
        method="patch",
        state="released",
    ),
    get("report_signature", change(200), draft, "draft"),
    get("report_signature", change(409), signed, "signed"),
    post("report_signature", change(400), draft, state="draft, unconfirmed"),
    post(
        "report_signature",
        change(409),
        draft,
        body={"revision": 1, "evidence": "x", "is_confirmed": True},
        state="draft, unread",
    ),
    post("report_release", change(409), draft, state="draft"),
    post("report_release", change(200), signed, state="signed"),
    post("report_release", change(409), released, state="released"),
    post("report_addenda", change(400), signed, state="empty"),
    post("report_addenda", change(409), draft, body={"text": "A", "is_confirmed": True}, state="draft"),
    post("report_amendment", change(400), released, state="empty"),
    post("report_amendment", change(201), released, body={"reason": "The side was wrong."}, state="with a reason"),
    get("report_pdf", NOWHERE, draft, "draft"),
    get("report_pdf", READ, signed, "signed"),
    get("report_pdf", OF_REPORTS, released, "released"),
    *[
        get(
            f"report_{picture}",
            OF_REPORTS if of == "released" else READ,
            lambda world, of=of: {"report_id": getattr(world, of).pk, "number": 1},  # type: ignore[misc]
            of,
        )
        for picture in ("slice", "overlay")
        for of in ("draft", "signed", "released")
    ],
    get("jobs", only((*DOCTORS, *PATIENTS), 200)),
    post("jobs", only(DOCTORS, 400), state="empty"),
    post("jobs", only(READERS, 202), body=lambda world: {"kind": "pdf", "studies": [str(world.study.pk)]}, state="one"),
    get("job", only(("doctor",), 200), job, "a doctor's"),
    get("job", only(("patient",), 200), data, "a patient's"),
    get("job_archive", only(("doctor",), 200), job, "a doctor's"),
    get("job_archive", only(("patient",), 200), data, "a patient's"),
]
PATIENTS_RIGHTS = [
    get("own_record", only(PATIENTS, 200)),
    get("own_history", only(PATIENTS, 200)),
    post("own_record_claim", only(PATIENTS, 400), state="empty"),
    post(
        "own_record_claim",
        only(PATIENTS, 400),
        body={"record_number": "R-1", "birth_date": "1960-05-17"},
        state="of somebody else",
    ),
    post(
        "own_record_claim",
        only(PATIENTS, 410),
        body={"record_number": "R-1", "birth_date": "1960-05-17", "invitation": "no-such-token"},
        state="with an old invitation",
    ),
    get("own_teaching", only(PATIENTS, 200)),
    post("own_teaching_change", only(("patient",), 400), patient, method="patch", state="empty"),
    post("own_teaching_change", only(("patient",), 200), patient, body={"teaching": "refused"}, method="patch"),
    get("erasures", only(PATIENTS, 200)),
    post("erasures", only(PATIENTS, 400), state="empty"),
    post(
        "erasures",
        only(("patient",), 409),
        body=lambda world: {"patient": str(world.study.patient_id)},
        state="asked already",
    ),
    post("erasure_withdraw", only(("patient",), 200), lambda world: {"wish_id": world.wish.pk}),
    post("report_share_links", only(("patient",), 400), released, state="empty"),
    post(
        "report_share_links",
        only(("patient",), 201),
        released,
        body={"email": "reader@example.org", "days": 7},
        state="filled in",
    ),
    get("share_links", only(PATIENTS, 200)),
    post("share_link_revoke", only(("patient",), 200), lambda world: {"link_id": world.link.pk}),
]
THE_PATIENT = only(("patient",), 200)
OWN_UPLOADS = [
    get("own_consent", only(PATIENTS, 200)),
    get("hospitals", only(PATIENTS, 200)),
    get("own_studies", only(PATIENTS, 200)),
    send("own_studies", only(PATIENTS, 400)),
    *[
        get(name, THE_PATIENT, target, state)
        for name in ("own_study", "own_study_state", "own_picture")
        for state, target in (("own", own), ("asked", asked))
    ],
    *[get(name, THE_PATIENT, own, "done") for name in ("automatic_report", "automatic_pdf", "automatic_overlay")],
    *[get(name, NOWHERE, asked, "no answer") for name in ("automatic_report", "automatic_pdf", "automatic_overlay")],
    post("own_retry", only(("patient",), 409), own, state="done"),
    post("own_handover", only(("patient",), 400), own, state="empty"),
    post(
        "own_handover",
        only(("patient",), 201),
        own,
        body=lambda world: {"hospital": str(world.asked.hospital_id)},
        state="to a hospital",
    ),
    post(
        "own_handover",
        only(("patient",), 409),
        asked,
        body=lambda world: {"hospital": str(world.asked.hospital_id)},
        state="asked already",
    ),
    post("own_withdraw", only(("patient",), 409), own, state="not asked"),
    post("own_withdraw", only(("patient",), 200), asked, state="asked"),
    post("own_study", only(("patient",), 204), own, method="delete", state="own"),
    post("own_study", only(("patient",), 409), asked, method="delete", state="asked"),
]
OF_THE_HOSPITAL = ("doctor", "reader", "colleague")


def hand_over(world: Any) -> dict[str, Any]:
    return {"handover_id": world.asked.pk}


HANDOVERS = [
    get("hand_overs", only(DOCTORS, 200)),
    get("hand_over", only(OF_THE_HOSPITAL, 200), hand_over),
    # The patient has a record there, so no number is needed.
    post("hand_over_take", only(OF_THE_HOSPITAL, 200), hand_over),
    post("hand_over_decline", only(OF_THE_HOSPITAL, 400), hand_over, state="empty"),
    post("hand_over_decline", only(OF_THE_HOSPITAL, 200), hand_over, body={"reason": "No."}, state="with a reason"),
]
API_TABLE: list[Line] = [*GENERAL, *MODELS, *PATIENTS_AND_STUDIES, *REPORTS, *PATIENTS_RIGHTS, *OWN_UPLOADS, *HANDOVERS]
# After everything else, because it deletes an archive from the disk.
API_LAST: list[Line] = [post("my_data", only(PATIENTS, 202))]
API_PICTURES_OF_THE_ANSWER = (
    "api:analysis_overlay",
    "api:analysis_mask",
    "api:analysis_activation",
    "api:finding_outline",
    "api:image_judged",
    "api:review_outline",
    "api:report_overlay",
)
