"""The automatic report by the API: plain words, PDF and picture, marked, frozen, nobody else's."""

import pytest

from accounts.models import AccessEvent, User
from reports.models import AutomaticReport
from studies.models import Analysis, Study
from tests.factories import AnalysisFactory, DoctorFactory, OwnStudyFactory, UserFactory, answer, finish
from tests.programs import Program, is_problem

pytestmark = pytest.mark.django_db
PARTS = ("", "report.pdf", "overlay.png")


@pytest.fixture
def study() -> Study:
    return OwnStudyFactory(is_done=True)


@pytest.fixture
def program(study: Study) -> Program:
    return Program(study.created_by)


def path(study: Study, part: str = "") -> str:
    return f"own-studies/{study.pk}/report/{part}"


def events(action: str) -> int:
    return AccessEvent.objects.filter(target_type="reports.automaticreport", action=action).count()


def test_the_plain_words_are_those_of_the_page(program: Program, study: Study) -> None:
    body = program.get(path(study)).json()
    assert body["mark"] == "Automatic, not read by a doctor"
    assert "No doctor has looked at this picture." in str(body["explanation"])
    assert body["explanation"]["next_steps"][0].startswith("Show this to a doctor before you decide anything.")
    assert [place["number"] for place in body["places"]] == [1]
    assert body["models"][0]["version"] == "test-1"
    # As on the page: no bare percentage, and no probability as a figure of its own.
    assert "%" not in str(body)
    assert "0.8" not in str(body)
    assert events("viewed") == 1


def test_it_stays_as_it_was_first_shown(program: Program, study: Study) -> None:
    first = program.get(path(study)).json()
    later = Analysis.objects.claim(AnalysisFactory(image=study.images.get(), requested_by=study.created_by).id)
    assert later is not None
    finish(later, result=answer(model_version="test-2", malignant_probability=0.01))
    assert program.get(path(study)).json() == first


def test_the_pdf_needs_no_look_before_and_is_sent_once(program: Program, study: Study) -> None:
    sent = program.get(path(study, "report.pdf"))
    assert sent.content.startswith(b"%PDF-")
    assert sent["Content-Type"] == "application/pdf"
    assert sent["Cache-Control"] == "private, no-store"
    assert "automatic-report-" in sent["Content-Disposition"]
    held = program.get(path(study, "report.pdf"), If_None_Match=sent["ETag"])
    assert (held.status_code, held.content, held["ETag"]) == (304, b"", sent["ETag"])
    assert program.get(path(study, "report.pdf"), If_None_Match='"other"').status_code == 200
    # The words are in another language.
    german = program.get(path(study, "report.pdf"), If_None_Match=sent["ETag"], Accept_Language="de")
    assert german.status_code == 200
    assert events("downloaded") == 3


def test_the_picture_has_the_places_marked(program: Program, study: Study) -> None:
    picture = program.get(program.get(path(study)).json()["overlay_url"])
    assert (picture.status_code, picture["Content-Type"]) == (200, "image/png")
    assert b"".join(picture.streaming_content).startswith(b"\x89PNG")


def test_a_picture_that_is_gone_is_told(program: Program, study: Study) -> None:
    program.get(path(study))
    image = study.images.get()
    image.file.storage.delete(image.file.name)
    assert is_problem(program.get(path(study, "report.pdf")), 500)
    assert events("downloaded") == 0


@pytest.mark.parametrize("part", PARTS)
def test_before_the_answer_there_is_none(part: str) -> None:
    study = OwnStudyFactory()
    assert is_problem(Program(study.created_by).get(path(study, part)), 404)
    assert not AutomaticReport.objects.exists()


@pytest.mark.parametrize("part", PARTS)
def test_for_everybody_else_it_does_not_exist(program: Program, study: Study, part: str) -> None:
    program.get(path(study))
    strangers: list[User] = [UserFactory(), DoctorFactory()]
    for stranger in strangers:
        assert is_problem(Program(stranger).get(path(study, part)), 404)
