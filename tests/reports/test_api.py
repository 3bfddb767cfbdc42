"""The API of reports and jobs: drafting, locking, signing what was read, releasing, amending, and the files."""

from typing import Any

import pytest
from django.core import mail

from accounts.models import AccessEvent, Hospital, User
from reports.models import BulkJob, Opening, Report
from reports.tasks import run_bulk_job
from studies.models import Study
from studies.permissions import grant_study
from tests.factories import (
    AnalysisFactory,
    DoctorFactory,
    FirstImpressionFactory,
    HospitalFactory,
    ImageFactory,
    PatientFactory,
    ReportFactory,
    ReportTemplateFactory,
    StudyFactory,
    UserFactory,
)
from tests.programs import Program, is_problem

pytestmark = pytest.mark.django_db


@pytest.fixture
def hospital() -> Hospital:
    return HospitalFactory()


@pytest.fixture
def doctor(hospital: Hospital) -> User:
    return DoctorFactory(hospital=hospital)


@pytest.fixture
def program(doctor: User) -> Program:
    return Program(doctor)


@pytest.fixture
def patient() -> User:
    return UserFactory()


@pytest.fixture
def study(doctor: User, patient: User) -> Study:
    made = StudyFactory(created_by=doctor, patient=PatientFactory(created_by=doctor, user=patient))
    AnalysisFactory(image=ImageFactory(study=made), is_done=True)
    return made


def actions(report: Report) -> list[str]:
    events = AccessEvent.objects.filter(target_type="reports.report", target_id=report.pk).order_by("sequence")
    return list(events.values_list("action", flat=True))


def read_and_sign(program: Program, report: Report) -> Any:
    """Sign as the API wants it: what was read a moment ago."""
    read = program.get(f"reports/{report.pk}/signature/").json()
    body = {"revision": read["revision"], "evidence": read["evidence"], "is_confirmed": True}
    return program.post(f"reports/{report.pk}/signature/", body)


class TestDraft:
    def test_a_draft_is_written_changed_signed_and_released(
        self, program: Program, study: Study, patient: User
    ) -> None:
        made = program.post(f"studies/{study.pk}/report/", {})
        assert made.status_code == 201
        report = Report.objects.get()
        assert made["Location"].endswith(f"/reports/{report.pk}/")
        assert "15.6" in made.json()["findings_text"] or "16" in made.json()["findings_text"]
        changed = program.patch(f"reports/{report.pk}/", {"impression": "Suspicious nodule."}, If_Match=made["ETag"])
        assert changed.status_code == 200, changed.content
        assert changed.json()["impression"] == "Suspicious nodule."
        assert changed.json()["findings_text"] == made.json()["findings_text"]
        assert changed["ETag"] != made["ETag"]
        signed = read_and_sign(program, report)
        assert signed.status_code == 200, signed.content
        assert (signed.json()["state"], signed.json()["signed_by"]) == ("signed", str(report.created_by))
        assert is_problem(Program(patient).get(f"reports/{report.pk}/"), 404)
        released = program.post(f"reports/{report.pk}/release/")
        assert released.json()["has_reader"] is released.json()["is_notified"] is True
        assert [message.to for message in mail.outbox] == [[patient.email]]
        assert actions(report) == ["created", "changed", "viewed", "signed", "released"]
        theirs = Program(patient).get(f"reports/{report.pk}/").json()
        assert theirs["impression"] == "Suspicious nodule."
        assert theirs["created_by"] is None
        assert theirs["explanation"]["found"]
        assert actions(report)[-1] == "viewed"

    def test_there_is_one_report_and_it_is_named(self, program: Program, study: Study) -> None:
        first = program.post(f"studies/{study.pk}/report/", {})
        again = program.post(f"studies/{study.pk}/report/", {})
        assert is_problem(again, 409)
        assert again.json()["report"] == first.json()["url"]

    def test_without_an_answer_there_is_nothing_to_write(self, program: Program, doctor: User) -> None:
        empty = StudyFactory(created_by=doctor)
        assert is_problem(program.post(f"studies/{empty.pk}/report/", {}), 409, "nothing to write")

    def test_from_a_template_of_the_own_hospital(self, program: Program, study: Study, hospital: Hospital) -> None:
        mine, theirs = ReportTemplateFactory(hospital=hospital, impression="Ours."), ReportTemplateFactory()
        assert [row["id"] for row in program.get("report-templates/").json()] == [str(mine.pk)]
        path = f"studies/{study.pk}/report/"
        assert is_problem(program.post(path, {"template": str(theirs.pk)}), 400, "template")
        assert program.post(path, {"template": str(mine.pk)}).json()["impression"] == "Ours."

    def test_a_draft_tells_of_the_answer_so_the_first_impression_comes_first(
        self, program: Program, study: Study, hospital: Hospital, doctor: User
    ) -> None:
        hospital.reads_first = True
        hospital.save()
        refused = program.post(f"studies/{study.pk}/report/", {})
        assert is_problem(refused, 403, "first impression")
        assert refused.json()["type"].endswith(":first-impression-missing")
        impression = FirstImpressionFactory(study=study)
        report = Report.objects.get(pk=program.post(f"studies/{study.pk}/report/", {}).json()["id"])
        colleague = DoctorFactory(hospital=hospital)
        grant_study(study, to=colleague, can_change=True)
        other = Program(colleague)
        for path in (f"reports/{report.pk}/", f"reports/{report.pk}/signature/"):
            assert is_problem(other.get(path), 403, "first impression")
        changed = other.patch(f"reports/{report.pk}/", {"impression": "x"}, If_Match='"1-draft-0"')
        assert is_problem(changed, 403, "first impression")
        assert other.get(f"reports/{report.pk}/overlays/1.png").status_code == 404
        assert impression.doctor == doctor
        assert not Opening.objects.exists()


class TestLocking:
    def test_of_two_changes_the_second_is_told_and_nothing_is_overwritten(self, program: Program, study: Study) -> None:
        made = program.post(f"studies/{study.pk}/report/", {})
        path, etag = f"reports/{made.json()['id']}/", made["ETag"]
        assert program.patch(path, {"impression": "First."}, If_Match=etag).status_code == 200
        second = program.patch(path, {"impression": "Second."}, If_Match=etag)
        assert is_problem(second, 412)
        body = second.json()
        assert body["type"].endswith(":stale")
        assert body["stored"]["impression"] == "First."
        assert body["both"]["impression"] == "First.\nSecond."
        assert program.get(path).json()["impression"] == "First."
        assert program.patch(path, {"impression": "Second."}, If_Match=second["ETag"]).status_code == 200

    @pytest.mark.parametrize(
        ("etag", "status"), [(None, 428), ("*", 428), ('"nonsense"', 412), ("1", 412), ('"99-draft-0"', 412)]
    )
    def test_a_change_names_the_text_that_it_changes(
        self, program: Program, study: Study, etag: str | None, status: int
    ) -> None:
        made = program.post(f"studies/{study.pk}/report/", {}).json()
        headers = {} if etag is None else {"If_Match": etag}
        assert is_problem(program.patch(f"reports/{made['id']}/", {"impression": "x"}, **headers), status)

    def test_a_signed_text_is_not_changed(self, program: Program, study: Study, doctor: User) -> None:
        report = ReportFactory(study=study, is_signed=True)
        etag = program.get(f"reports/{report.pk}/")["ETag"]
        assert is_problem(program.patch(f"reports/{report.pk}/", {"impression": "x"}, If_Match=etag), 409)

    @pytest.mark.parametrize(
        "body", [{"impression": "x" * 10_001}, {"findings_text": "a\n" * 501}, {"text": "x"}, {"impression": 7}]
    )
    def test_a_text_that_no_letter_can_print_is_refused(
        self, program: Program, study: Study, body: dict[str, Any]
    ) -> None:
        made = program.post(f"studies/{study.pk}/report/", {})
        assert is_problem(program.patch(f"reports/{made.json()['id']}/", body, If_Match=made["ETag"]), 400)


class TestSigning:
    def test_what_was_not_read_is_not_signed(self, program: Program, study: Study, doctor: User) -> None:
        report = ReportFactory(study=study)
        evidence = report.content_for(doctor).evidence
        body = {"revision": 1, "evidence": evidence, "is_confirmed": True}
        unread = program.post(f"reports/{report.pk}/signature/", body)
        assert is_problem(unread, 409, "have not opened")
        assert unread.json()["type"].endswith(":unread")
        # Lists and the report's own address are no reading for a signature.
        program.get("reports/")
        program.get(f"reports/{report.pk}/")
        assert is_problem(program.post(f"reports/{report.pk}/signature/", body), 409)
        program.get(f"reports/{report.pk}/signature/")
        assert program.post(f"reports/{report.pk}/signature/", body).status_code == 200
        assert is_problem(program.post(f"reports/{report.pk}/signature/", body), 409, "signed already")

    def test_there_is_no_signing_by_the_dozen(self, program: Program, doctor: User) -> None:
        reports = [ReportFactory(study=StudyFactory(created_by=doctor)) for _number in range(3)]
        read = program.get(f"reports/{reports[0].pk}/signature/").json()
        body = {"revision": read["revision"], "evidence": read["evidence"], "is_confirmed": True}
        answers = [program.post(f"reports/{report.pk}/signature/", body).status_code for report in reports]
        assert answers == [200, 409, 409]

    def test_a_text_or_a_figure_that_changed_is_read_again(
        self, program: Program, study: Study, doctor: User, hospital: Hospital
    ) -> None:
        report = ReportFactory(study=study)
        path = f"reports/{report.pk}/signature/"
        read = program.get(path).json()
        body = {"revision": read["revision"], "evidence": read["evidence"], "is_confirmed": True}
        report.edit(by=doctor, revision=1, findings_text="Other.", impression="Other.")
        stale = program.post(path, body)
        assert is_problem(stale, 409, "read it again")
        assert stale.json()["type"].endswith(":stale")
        read = program.get(path).json()
        AnalysisFactory(image=study.images.get(), is_done=True)
        body = {"revision": read["revision"], "evidence": read["evidence"], "is_confirmed": True}
        assert is_problem(program.post(path, body), 409, "analysed again")

    @pytest.mark.parametrize(
        "change", [{"is_confirmed": False}, {"revision": 0}, {"evidence": ""}, {"evidence": "x" * 65}]
    )
    def test_a_signature_is_complete(self, program: Program, study: Study, change: dict[str, Any]) -> None:
        report = ReportFactory(study=study)
        read = program.get(f"reports/{report.pk}/signature/").json()
        body = {"revision": read["revision"], "evidence": read["evidence"], "is_confirmed": True}
        assert is_problem(program.post(f"reports/{report.pk}/signature/", body | change), 400)

    def test_a_token_for_writing_does_not_sign(self, doctor: User, study: Study) -> None:
        report = ReportFactory(study=study)
        program = Program(doctor, scopes=["read", "write"])
        for path in ("signature", "release", "addenda", "amendment"):
            assert is_problem(program.post(f"reports/{report.pk}/{path}/", {}), 403, "sign")


class TestVersions:
    def test_addendum_and_amendment(self, program: Program, study: Study, patient: User) -> None:
        report = ReportFactory(study=study, is_released=True)
        added = program.post(f"reports/{report.pk}/addenda/", {"text": "See the CT of 2019.", "is_confirmed": True})
        assert (added.status_code, added.json()["number"]) == (201, 1)
        assert is_problem(program.post(f"reports/{report.pk}/addenda/", {"text": "x", "is_confirmed": False}), 400)
        amended = program.post(f"reports/{report.pk}/amendment/", {"reason": "The side was wrong."})
        assert amended.status_code == 201
        assert (amended.json()["version"], amended.json()["state"]) == (2, "draft")
        again = program.post(f"reports/{report.pk}/amendment/", {"reason": "The side was wrong."})
        assert is_problem(again, 409)
        assert again.json()["report"] == amended.json()["url"]
        following = Report.objects.get(version=2)
        assert read_and_sign(program, following).status_code == 200
        assert program.get(f"reports/{report.pk}/").json()["is_superseded"] is True
        # The patient reads the first version until the second is released.
        assert Program(patient).get(f"reports/{report.pk}/").status_code == 200
        program.post(f"reports/{following.pk}/release/")
        assert Program(patient).get(f"reports/{report.pk}/").status_code == 404
        (listed,) = Program(patient).get("reports/").json()["results"]
        assert listed["id"] == str(following.pk)

    def test_a_draft_is_not_released_supplemented_or_amended(self, program: Program, study: Study) -> None:
        report = ReportFactory(study=study)
        assert is_problem(program.post(f"reports/{report.pk}/release/"), 409)
        body = {"text": "x", "is_confirmed": True}
        assert is_problem(program.post(f"reports/{report.pk}/addenda/", body), 409)
        assert is_problem(program.post(f"reports/{report.pk}/amendment/", {"reason": "Because."}), 409)


class TestFiles:
    def test_a_pdf_is_sent_once_to_whoever_holds_it(self, program: Program, study: Study) -> None:
        report = ReportFactory(study=study, is_signed=True)
        path = f"reports/{report.pk}/report.pdf"
        first = program.get(path)
        assert (first.status_code, first["Content-Type"]) == (200, "application/pdf")
        assert first.content.startswith(b"%PDF")
        assert "no-store" in first["Cache-Control"]
        for held in (first["ETag"], f'"other", {first["ETag"]}', f"W/{first['ETag']}", "*"):
            same = program.get(path, If_None_Match=held)
            expected = 200 if held == "*" else 304
            assert (same.status_code, same["ETag"]) == (expected, first["ETag"]), held
        assert actions(report) == ["downloaded", "downloaded"]
        program.post(f"reports/{report.pk}/addenda/", {"text": "Added.", "is_confirmed": True})
        newer = program.get(path, If_None_Match=first["ETag"])
        assert newer.status_code == 200
        assert newer["ETag"] != first["ETag"]
        assert program.get(path, If_None_Match=newer["ETag"]).status_code == 304

    def test_an_etag_tells_nobody_of_what_they_may_not_see(self, program: Program, study: Study) -> None:
        report = ReportFactory(study=study, is_signed=True)
        etag = program.get(f"reports/{report.pk}/report.pdf")["ETag"]
        stranger = Program(DoctorFactory())
        assert is_problem(stranger.get(f"reports/{report.pk}/report.pdf", If_None_Match=etag), 404)

    def test_a_draft_has_none_and_a_damaged_one_is_not_sent(self, program: Program, study: Study) -> None:
        report = ReportFactory(study=study)
        path = f"reports/{report.pk}/report.pdf"
        assert is_problem(program.get(path), 404)
        assert read_and_sign(program, report).status_code == 200
        report.refresh_from_db()
        report.pdf.storage.delete(report.pdf.name)
        assert is_problem(program.get(path), 500)

    def test_pictures(self, program: Program, study: Study, patient: User) -> None:
        report = ReportFactory(study=study, is_released=True)
        for asking in (program, Program(patient)):
            (part,) = asking.get(f"reports/{report.pk}/").json()["slices"]
            for url in (part["picture_url"], part["overlay_url"]):
                assert asking.get(url).getvalue().startswith(b"\x89PNG")
        assert is_problem(program.get(f"reports/{report.pk}/slices/99.png"), 404)


class TestLists:
    def test_by_state_and_without_a_word_of_what_is_in_them(self, program: Program, doctor: User) -> None:
        draft = ReportFactory(study=StudyFactory(created_by=doctor))
        signed = ReportFactory(study=StudyFactory(created_by=doctor), is_signed=True)
        ReportFactory()

        def found(**asked: str) -> set[str]:
            return {row["id"] for row in program.get("reports/", asked).json()["results"]}

        assert found() == {str(draft.pk), str(signed.pk)}
        assert found(state="draft") == {str(draft.pk)}
        assert found(study=str(signed.study_id)) == {str(signed.pk)}
        assert found(state="superseded") == set()
        assert is_problem(program.get("reports/", {"state": "x"}), 400, "state")
        assert is_problem(program.get("reports/", {"study": "x"}), 400, "study")
        assert b"82" not in program.get("reports/").content or "findings_text" not in program.get("reports/").json()
        assert set(program.get("reports/").json()["results"][0]) & {"findings_text", "impression"} == set()

    def test_two_hospitals(self, study: Study) -> None:
        report = ReportFactory(study=study, is_signed=True)
        stranger = Program(DoctorFactory())
        assert stranger.get("reports/").json()["results"] == []
        for path in ("", "signature/", "report.pdf", "slices/1.png", "overlays/1.png"):
            assert is_problem(stranger.get(f"reports/{report.pk}/{path}"), 404)
        for path in ("signature/", "release/", "addenda/", "amendment/"):
            assert is_problem(stranger.post(f"reports/{report.pk}/{path}", {}), 404)
        assert is_problem(stranger.post(f"studies/{study.pk}/report/", {}), 404)


class TestJobs:
    def test_drafts_and_pdfs_of_many_studies(self, program: Program, doctor: User, study: Study) -> None:
        signed = ReportFactory(study=StudyFactory(created_by=doctor), is_signed=True)
        foreign = StudyFactory()
        body = {"kind": "pdf", "studies": [str(study.pk), str(signed.study_id), str(foreign.pk)]}
        started = program.post("jobs/", body)
        assert started.status_code == 202
        assert program.post("jobs/", body).json()["id"] == started.json()["id"]
        assert [line["study_id"] for line in started.json()["lines"]] == [str(study.pk), str(signed.study_id)]
        run_bulk_job(started.json()["id"])
        done = program.get(started["Location"]).json()
        assert [line["state"] for line in done["lines"]] == ["skipped", "done"]
        archive = program.get(done["archive_url"])
        assert (archive.status_code, archive["Content-Type"]) == (200, "application/zip")
        assert archive.getvalue().startswith(b"PK")
        assert actions(signed) == ["downloaded"]
        assert [row["id"] for row in program.get("jobs/").json()["results"]] == [done["id"]]
        assert is_problem(Program(DoctorFactory()).get(done["archive_url"]), 404)

    def test_nothing_that_one_sees_is_nothing(self, program: Program) -> None:
        assert is_problem(program.post("jobs/", {"kind": "draft", "studies": [str(StudyFactory().pk)]}), 404)

    @pytest.mark.parametrize("body", [{"kind": "sign", "studies": []}, {"kind": "draft", "studies": ["x"]}])
    def test_there_is_no_job_that_signs(self, program: Program, body: dict[str, Any]) -> None:
        assert is_problem(program.post("jobs/", body), 400)

    def test_an_archive_is_sent_while_all_of_it_may_be_read(self, program: Program, doctor: User) -> None:
        report = ReportFactory(study=StudyFactory(created_by=doctor), is_signed=True)
        job = program.post("jobs/", {"kind": "pdf", "studies": [str(report.study_id)]}).json()
        run_bulk_job(job["id"])
        report.study.studyuserobjectpermission_set.all().delete()
        assert is_problem(program.get(f"jobs/{job['id']}/archive.zip"), 409)

    def test_a_patients_data(self, patient: User, study: Study) -> None:
        report = ReportFactory(study=study, is_released=True)
        program = Program(patient)
        assert is_problem(program.post("jobs/", {"kind": "pdf", "studies": [str(study.pk)]}), 404)
        job = program.post("my-data/").json()
        assert program.post("my-data/").json()["id"] == job["id"]
        run_bulk_job(job["id"])
        archive = program.get(f"jobs/{job['id']}/archive.zip")
        assert archive.getvalue().startswith(b"PK")
        assert BulkJob.objects.get().kind == "my_data"
        events = AccessEvent.objects.filter(action="downloaded")
        assert {event.note for event in events} == {"all my data"}
        assert {event.target_type for event in events} == {"studies.patient", "reports.report"}
        assert actions(report)[-1] == "downloaded"
