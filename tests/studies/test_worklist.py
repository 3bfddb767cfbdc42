"""The worklist as a doctor uses it: order, filters, unread marks, live rows, and acts on several studies at once."""

import datetime
import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django.asserts import assertContains, assertNotContains, assertRedirects

from accounts.models import AccessEvent, Hospital, User
from studies.models import Analysis, FirstImpression, Study, StudyRead
from studies.permissions import grant_study
from tests.factories import AnalysisFactory, DoctorFactory, ImageFactory, PatientFactory, StudyFactory, answer

pytestmark = pytest.mark.django_db
LIST, ROWS, MARK, RETRY = (
    reverse(f"studies:{name}") for name in ("study_list", "study_rows", "study_mark", "study_retry")
)


@pytest.fixture
def doctor() -> User:
    return DoctorFactory()


@pytest.fixture
def page(client: Client, doctor: User) -> Client:
    client.force_login(doctor)
    return client


def answered(doctor: User, *, malignancy: float = 0.885, top: str = "adenocarcinoma", **study: Any) -> Study:
    """Return a study of the doctor with one slice about which the model said that."""
    made = StudyFactory(created_by=doctor, **study)
    result = answer(malignant_probability=malignancy, probabilities={top: 0.9, "other": 0.1})
    AnalysisFactory(image=ImageFactory(study=made), is_done=True, result=result)
    made.refresh_from_db()
    return made


def rows(client: Client, **query: Any) -> list[Study]:
    return list(client.get(LIST, query).context["page"].rows)


# --- what a study's own row says --------------------------------------------------------------------------------------


def test_a_study_is_as_suspicious_as_its_most_suspicious_slice(doctor: User) -> None:
    study = answered(doctor, malignancy=0.2, top="normal")
    result = answer(malignant_probability=0.7, probabilities={"squamous_cell_carcinoma": 0.6, "normal": 0.4})
    worse = AnalysisFactory(image=ImageFactory(study=study), is_done=True, result=result)
    AnalysisFactory(image=ImageFactory(study=study), is_done=True, result=answer(malignant_probability=0.1))
    study.refresh_from_db()
    assert (study.triage_malignancy, study.triage_rank, study.triage_class) == (0.7, 0.7, "squamous_cell_carcinoma")
    assert study.state == "succeeded"
    assert study.answered_at > worse.finished_at


def test_only_the_newest_answer_about_a_slice_counts(doctor: User) -> None:
    study = answered(doctor, malignancy=0.9)
    AnalysisFactory(image=study.images.get(), is_done=True, result=answer(malignant_probability=0.3))
    study.refresh_from_db()
    assert study.triage_malignancy == 0.3


def test_every_transition_of_an_analysis_is_a_state_of_its_study(doctor: User) -> None:
    study = StudyFactory(created_by=doctor)

    def state() -> str:
        study.refresh_from_db()
        return study.state

    assert state() == ""
    analysis = AnalysisFactory(image=ImageFactory(study=study))
    assert state() == "queued"
    claimed = Analysis.objects.claim(analysis.id)
    assert claimed is not None
    assert state() == "running"
    AnalysisFactory(image=ImageFactory(study=study))
    assert state() == "running", "a slice that waits does not hide one that is being analysed"
    claimed.fail("The file is damaged. Please upload it again.")
    assert state() == "queued"
    Analysis.objects.get(state="queued").cancel()
    assert state() == "failed"
    assert (study.triage_malignancy, study.triage_rank, study.answered_at) == (None, -1.0, None)


@pytest.mark.parametrize(("attempt", "state"), [(1, "queued"), (3, "failed")])
def test_the_sweeper_tells_the_study_too(doctor: User, attempt: int, state: str) -> None:
    analysis = AnalysisFactory(image__study__created_by=doctor, is_running=True)
    past = timezone.now() - datetime.timedelta(minutes=5)
    Analysis.objects.filter(id=analysis.id).update(attempt=attempt, lease_expires_at=past)
    swept = Analysis.objects.sweep()
    assert (swept.requeued, swept.failed) == ((1, 0) if state == "queued" else (0, 1))
    assert Study.objects.get().state == state


# --- order ------------------------------------------------------------------------------------------------------------


def test_the_newest_day_stands_first_and_within_it_the_most_suspicious(page: Client, doctor: User) -> None:
    today = timezone.localdate()
    old_bad = answered(doctor, malignancy=0.99, received_on=today - datetime.timedelta(days=1))
    mild = answered(doctor, malignancy=0.1)
    bad = answered(doctor, malignancy=0.9)
    waiting = AnalysisFactory(image__study__created_by=doctor).image.study
    assert rows(page) == [bad, mild, waiting, old_bad]
    assert rows(page, order="suspicion") == [old_bad, bad, mild, waiting]
    assert rows(page, order="newest") == [waiting, bad, mild, old_bad]
    assert rows(page, order="oldest") == [old_bad, mild, bad, waiting]


def test_the_order_is_kept_for_each_doctor(page: Client, doctor: User, client: Client) -> None:
    first, second = answered(doctor, malignancy=0.9), answered(doctor, malignancy=0.1)
    assert rows(page) == [first, second]
    rows(page, order="newest")
    assert rows(page) == [second, first]
    assertContains(page.get(LIST), '<option value="newest" selected>')
    assert rows(page, order="nonsense") == [second, first]
    other = Client()
    other.force_login(DoctorFactory(hospital=doctor.hospital))
    assertContains(other.get(LIST), '<option value="triage" selected>')


@pytest.mark.parametrize("order", ["triage", "suspicion", "newest", "oldest"])
def test_pages_follow_each_other_in_every_order(page: Client, doctor: User, order: str) -> None:
    patient = PatientFactory(created_by=doctor)
    studies = [StudyFactory(created_by=doctor, patient=patient) for _ in range(55)]
    moment = timezone.now()
    for number, study in enumerate(studies):
        rank = [None, 0.1, 0.30000000000000004, 1.0][number % 4]
        Study.objects.filter(id=study.id).update(
            triage_malignancy=rank, answered_at=None if rank is None else moment, created_at=moment
        )
    seen: list[Study] = []
    key = ""
    while True:
        shown = page.get(LIST, {"order": order, "after": key}).context["page"]
        seen += shown.rows
        key = shown.next_key
        if not key:
            break
    assert len(seen) == len({study.id for study in seen}) == 55
    assert seen == list(
        Study.objects.order_by(
            *{
                "triage": ["-received_on", "-triage_rank", "-created_at", "-id"],
                "suspicion": ["-triage_rank", "-created_at", "-id"],
                "newest": ["-created_at", "-id"],
                "oldest": ["created_at", "id"],
            }[order]
        )
    )


# --- filters ----------------------------------------------------------------------------------------------------------


def test_every_filter_narrows_to_exactly_what_it_says(page: Client, doctor: User) -> None:
    colleague = DoctorFactory(hospital=doctor.hospital)
    patient = PatientFactory(created_by=doctor, family_name="Muster", record_number="X-77")
    mine = answered(doctor, patient=patient, study_date=datetime.date(2026, 1, 1))
    normal = answered(doctor, top="normal", malignancy=0.05, study_date=datetime.date(2026, 1, 31))
    shared = answered(colleague, top="normal", malignancy=0.04, study_date=datetime.date(2026, 3, 1))
    grant_study(shared, to=doctor, can_change=False)
    hidden = answered(colleague)
    failed = AnalysisFactory(image__study__created_by=doctor, has_failed=True).image.study
    waiting = AnalysisFactory(image__study__created_by=doctor).image.study
    running = AnalysisFactory(image__study__created_by=doctor, is_running=True).image.study
    Study.objects.filter(id__in=[failed.id, waiting.id, running.id]).update(study_date=datetime.date(2020, 1, 1))

    def found(**query: Any) -> set[Study]:
        return set(rows(page, **query))

    everything = {mine, normal, shared, failed, waiting, running}
    assert found() == everything
    assert found(whose="mine") == everything - {shared}
    assert found(whose="shared") == {shared}
    assert found(state="failed") == {failed}
    assert found(state="active") == {waiting, running}
    assert found(state="succeeded") == {mine, normal, shared}
    assert found(diagnosis="normal") == {normal, shared}
    assert found(diagnosis="normal", whose="mine") == {normal}
    assert found(since="2026-01-31") == {normal, shared}
    assert found(since="2026-01-01", until="2026-01-31") == {mine, normal}
    assert found(q="must") == found(q="x-77") == found(patient=patient.id) == {mine}
    assert found(patient=hidden.patient_id) == set()
    assert found(q=hidden.patient.family_name) == set()
    assert found(q=shared.patient.record_number) == {shared}


@pytest.mark.parametrize(
    "query",
    [
        {"state": "nonsense"},
        {"since": "31.12.2026"},
        {"until": "9999-99-99"},
        {"whose": "theirs"},
        {"diagnosis": "' OR 1=1"},
        {"patient": "x"},
        {"q": "\x00"},
        {"after": "WyJuYW4iLCJ4Il0"},
        {"order": ["newest", "x"]},
    ],
)
def test_nonsense_in_the_address_is_as_if_nothing_was_asked_for(
    page: Client, doctor: User, query: dict[str, Any]
) -> None:
    study = answered(doctor)
    assert rows(page, **query) == [study]


def test_a_filter_without_a_match_says_so_and_leads_back(page: Client, doctor: User) -> None:
    answered(doctor)
    response = page.get(LIST, {"q": "nobody-of-this-name"})
    assertContains(response, "No study matches.")
    assertContains(response, "Show all studies")
    assertNotContains(response, "data-bulk")


def test_an_empty_list_says_what_to_do(page: Client) -> None:
    assertContains(page.get(LIST), "There is no study yet.")


def test_pain_07_a_colleague_or_a_stranger_finds_nothing_of_it(doctor: User) -> None:
    study = answered(doctor)
    for person in (DoctorFactory(hospital=doctor.hospital), DoctorFactory()):
        client = Client()
        client.force_login(person)
        assert rows(client, patient=study.patient_id) == rows(client, q=study.patient.record_number) == []
        assert client.get(ROWS, {"row": f"{study.id}:queued"}).context["changed"] == []
        for url in (MARK, RETRY):
            client.post(url, {"studies": study.id})
        assert not StudyRead.objects.exists()
    assert Analysis.objects.count() == 1


# --- read first -------------------------------------------------------------------------------------------------------


def test_the_answer_is_hidden_in_the_list_until_the_doctor_has_read_first(page: Client, doctor: User) -> None:
    Hospital.objects.update(reads_first=True)
    study = answered(doctor, malignancy=0.8765)
    mild = answered(doctor, malignancy=0.1234, top="normal")
    hidden = "hidden until you have noted a first impression"
    for url in (LIST, reverse("home")):
        response = page.get(url)
        assertContains(response, hidden, count=2)
        for value in ("88%", "12%", "0.87", "0.12", "<meter"):
            assertNotContains(response, value)
    news = page.get(ROWS, {"row": f"{study.id}:running"})
    assertContains(news, hidden)
    assertNotContains(news, "88%")
    assert rows(page, diagnosis="adenocarcinoma") == [], "the filter would give the class away"
    assert rows(page) == [study, mild], "triage is what it is for: the order holds all the same"
    page.get(reverse("studies:study_detail", kwargs={"study_id": study.id}))
    assert set(rows(page, state="unread")) == {study, mild}, "what is hidden has not been read"
    FirstImpression.objects.note(study, doctor=doctor, diagnosis="unsure", suspicion=3)
    response = page.get(LIST)
    assertContains(response, "88%")
    assertContains(response, hidden, count=1)
    assert rows(page, diagnosis="adenocarcinoma") == [study]
    page.get(reverse("studies:study_detail", kwargs={"study_id": study.id}))
    assert rows(page, state="unread") == [mild]


# --- unread -----------------------------------------------------------------------------------------------------------


def test_an_answer_is_unread_until_the_doctor_has_opened_the_study(page: Client, doctor: User) -> None:
    colleague = DoctorFactory(hospital=doctor.hospital)
    study = answered(doctor)
    grant_study(study, to=colleague, can_change=True)
    waiting = AnalysisFactory(image__study__created_by=doctor).image.study
    assert rows(page, state="unread") == [study]
    assertContains(page.get(LIST), "badge--unread", count=1)
    page.get(reverse("studies:study_detail", kwargs={"study_id": study.id}))
    assert rows(page, state="unread") == []
    assert set(rows(page)) == {study, waiting}
    other = Client()
    other.force_login(colleague)
    assert rows(other, state="unread") == [study], "each doctor reads for himself"


def test_a_newer_answer_makes_it_unread_again(page: Client, doctor: User) -> None:
    study = answered(doctor)
    study.mark_read(by=doctor)
    AnalysisFactory(image=study.images.get(), is_done=True)
    assert rows(page, state="unread") == [study]


def test_an_answer_that_appears_on_the_open_page_is_read(page: Client, doctor: User) -> None:
    study = answered(doctor)
    page.get(reverse("studies:study_status", kwargs={"study_id": study.id}), {"seen": "older"})
    assert rows(page, state="unread") == []


def test_several_are_marked_as_read_and_unread_at_once(page: Client, doctor: User) -> None:
    studies = [answered(doctor) for _ in range(3)]
    chosen = [studies[0].id, studies[1].id, "nonsense", uuid.uuid4(), answered(DoctorFactory()).id]
    response = page.post(MARK, {"studies": chosen, "mark": "read", "back": "state=unread&q=a%26b"}, follow=True)
    assertRedirects(response, f"{LIST}?state=unread&q=a%26b")
    assertContains(response, "2 studies are marked as read.")
    assert rows(page, state="unread") == [studies[2]]
    page.post(MARK, {"studies": chosen, "mark": "read"})
    response = page.post(MARK, {"studies": [studies[0].id], "mark": "unread"}, follow=True)
    assertContains(response, "1 study is marked as unread.")
    assert set(rows(page, state="unread")) == {studies[0], studies[2]}


@pytest.mark.parametrize("url", [MARK, RETRY])
def test_nothing_chosen_is_a_sentence(page: Client, url: str) -> None:
    assertContains(page.post(url, {}, follow=True), "please choose one or more studies")


def test_the_way_back_never_leads_elsewhere(page: Client, doctor: User) -> None:
    for back in ("//evil.example", "https://evil.example/?a=b", "\r\nSet-Cookie: a=b", "x" * 5000):
        response = page.post(MARK, {"studies": answered(doctor).id, "back": back})
        assert response.headers["Location"].startswith(LIST)
        assert "Set-Cookie: a" not in str(response.headers)


# --- live rows --------------------------------------------------------------------------------------------------------


def test_only_unfinished_rows_are_asked_about_and_it_stops_when_all_are_finished(page: Client, doctor: User) -> None:
    done = answered(doctor)
    waiting = AnalysisFactory(image__study__created_by=doctor)
    study = waiting.image.study
    response = page.get(LIST)
    assertContains(response, f"row={study.id}:queued")
    assertNotContains(response, f"row={done.id}")
    assert page.get(ROWS, {"row": f"{study.id}:queued"}).status_code == 204
    claimed = Analysis.objects.claim(waiting.id)
    assert claimed is not None
    news = page.get(ROWS, {"row": f"{study.id}:queued"})
    assertContains(news, f'id="state-{study.id}"')
    assertContains(news, f"row={study.id}:running")
    claimed.succeed(answer(), overlay_png=b"o", mask_png=b"m", activation_png=b"a")
    last = page.get(ROWS, {"row": f"{study.id}:running"})
    assertContains(last, "hx-swap-oob")
    assertContains(last, "badge--unread")
    assertNotContains(last, "hx-get")
    assertNotContains(page.get(LIST), "hx-get")


def test_rows_that_do_not_read_or_are_gone_end_the_asking(page: Client, doctor: User) -> None:
    for row in ("nonsense", f"{uuid.uuid4()}:queued", ":", "\x00"):
        response = page.get(ROWS, {"row": row})
        assert response.status_code == 200
        assertNotContains(response, "hx-get")
    assert page.get(ROWS).status_code == 204


def test_pain_03_received_and_analysing_are_different_states_in_the_list(page: Client, doctor: User) -> None:
    AnalysisFactory(image__study__created_by=doctor)
    AnalysisFactory(image__study__created_by=doctor, is_running=True)
    response = page.get(LIST)
    assertContains(response, "badge--queued", count=1)
    assertContains(response, "badge--running", count=1)


# --- analysing again --------------------------------------------------------------------------------------------------


def test_failed_slices_of_the_chosen_studies_are_analysed_again(page: Client, doctor: User) -> None:
    study = StudyFactory(created_by=doctor)
    AnalysisFactory(image=ImageFactory(study=study), has_failed=True)
    AnalysisFactory(image=ImageFactory(study=study), has_failed=True)
    AnalysisFactory(image=ImageFactory(study=study), is_done=True)
    done = answered(doctor)
    shared = AnalysisFactory(
        image__study__created_by=DoctorFactory(hospital=doctor.hospital), has_failed=True
    ).image.study
    grant_study(shared, to=doctor, can_change=False)
    response = page.post(RETRY, {"studies": [study.id, done.id, shared.id]}, follow=True)
    assertContains(response, "2 slices are analysed again.")
    assertContains(response, "no analysis of it has failed")
    assertContains(response, "you may read this study, but not change it")
    assert Analysis.objects.filter(state="queued", requested_by=doctor).count() == 2
    assert AccessEvent.objects.filter(actor=doctor, action="created").count() == 2
    page.post(RETRY, {"studies": [study.id]})
    assert Analysis.objects.filter(state="queued").count() == 2, "a second click queues nothing more"


# --- the doctor's home ------------------------------------------------------------------------------------------------


def test_the_home_page_shows_what_awaits_the_doctor(page: Client, doctor: User) -> None:
    studies = [answered(doctor, malignancy=number / 10) for number in range(7)]
    failed = AnalysisFactory(image__study__created_by=doctor, has_failed=True).image.study
    answered(DoctorFactory(hospital=doctor.hospital))
    errands = {errand.key: errand for errand in page.get(reverse("home")).context["errands"]}
    assert errands["unread"].count == 7
    assert list(errands["unread"].rows) == list(reversed(studies))[:5]
    assert list(errands["failed"].rows) == [failed]
    assert errands["draft"].count == errands["signed"].count == 0
    for errand in errands.values():
        assert page.get(errand.url).status_code == 200
    assert set(rows(page, state="unread")) == set(studies)


def test_an_idle_home_page_says_so(page: Client) -> None:
    response = page.get(reverse("home"))
    for sentence in ("You have opened every answer.", "No analysis has failed.", "No draft is open."):
        assertContains(response, sentence)
