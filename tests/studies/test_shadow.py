"""The challenger in shadow: whom it repeats, when, and how it compares. The seam is ``studies.shadowing.analyse``."""

import uuid
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.utils import timezone
from django_q.models import OrmQ

from accounts.models import User
from ml import registry
from ml.errors import ModelFileError
from ml.models import ModelVersion
from studies import shadowing, tasks
from studies.models import Analysis, Image, ImageReview, ShadowAnswer
from tests.factories import AnalysisFactory, DoctorFactory, ImageFactory, StudyFactory, answer
from tests.model_folders import first_champion, registered

pytestmark = pytest.mark.django_db
State = ShadowAnswer.State


@pytest.fixture
def root() -> User:
    return User.objects.create_superuser("root@example.org", "a-long-password", given_name="R", family_name="O")


@pytest.fixture
def challenger(root: User) -> ModelVersion:
    """A version that repeats every analysis."""
    first_champion()
    registered("v2")
    registry.challenge("v2", share=1, by=root)
    return registry.named("v2")


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the challenger say this of every slice, or raise."""

    def let(result: Any) -> None:
        def analyse(*args: Any, **kwargs: Any) -> Any:
            if isinstance(result, Exception):
                raise result
            return result

        monkeypatch.setattr(shadowing, "analyse", analyse)
        monkeypatch.setattr(registry, "challenger_model", lambda: SimpleNamespace(version="v2"))

    let(answer(model_version="v2"))
    return let


def analysed(monkeypatch: pytest.MonkeyPatch, *, image: Image | None = None, **changes: Any) -> Analysis:
    """Run one analysis as the worker does."""
    monkeypatch.setattr(tasks, "analyse", lambda *args, **kwargs: answer(**changes))
    waiting = AnalysisFactory(**({} if image is None else {"image": image}))
    tasks.analyse_image(str(waiting.id))
    waiting.refresh_from_db()
    return waiting


def messages() -> list[str]:
    return [row.task["func"] for row in OrmQ.objects.order_by("id")]


class TestChoice:
    def test_it_is_the_same_each_time_and_hits_the_share(self) -> None:
        ids = [uuid.UUID(int=number) for number in range(2000)]
        chosen = [one for one in ids if shadowing.is_chosen(one, version="v2", share=0.2)]
        assert 340 < len(chosen) < 460
        assert chosen == [one for one in ids if shadowing.is_chosen(one, version="v2", share=0.2)]
        more = {one for one in ids if shadowing.is_chosen(one, version="v2", share=0.5)}
        assert set(chosen) <= more
        assert all(shadowing.is_chosen(one, version="v2", share=1) for one in ids)

    def test_only_its_share_is_repeated(
        self, challenger: ModelVersion, root: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        registry.challenge("v2", share=0.5, by=root)
        for _ in range(12):
            analysed(monkeypatch)
        expected = {
            one
            for one in Analysis.objects.values_list("id", flat=True)
            if shadowing.is_chosen(one, version="v2", share=0.5)
        }
        assert set(ShadowAnswer.objects.values_list("analysis_id", flat=True)) == expected

    def test_without_a_challenger_nothing_is_repeated(self, monkeypatch: pytest.MonkeyPatch) -> None:
        analysed(monkeypatch)
        assert not ShadowAnswer.objects.exists()
        assert messages() == []

    def test_what_the_challenger_itself_has_answered_is_not_repeated(
        self, challenger: ModelVersion, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        analysed(monkeypatch, model_version="v2")
        assert not ShadowAnswer.objects.exists()

    def test_what_has_failed_is_not_repeated(self, challenger: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*args: Any, **kwargs: Any) -> Any:
            raise ModelFileError("Gone.")

        monkeypatch.setattr(tasks, "analyse", broken)
        tasks.analyse_image(str(AnalysisFactory().id))
        assert not ShadowAnswer.objects.exists()


class TestAnswer:
    def test_it_is_stored_apart_and_the_champions_stays(
        self, challenger: ModelVersion, says: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        done = analysed(monkeypatch)
        before = Analysis.objects.filter(id=done.id).values().get()
        assert messages() == [shadowing.TASK]
        shadow = ShadowAnswer.objects.get()
        tasks.answer_in_shadow(str(shadow.id))
        shadow.refresh_from_db()
        assert (shadow.state, shadow.version, shadow.top_class) == (State.ANSWERED, "v2", "adenocarcinoma")
        assert shadow.findings == [{"box": [40, 40, 10, 12], "area_px": 120, "malignancy": 0.82}]
        assert Analysis.objects.filter(id=done.id).values().get() == before

    def test_a_message_too_many_does_nothing(
        self, challenger: ModelVersion, says: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        analysed(monkeypatch)
        shadow = ShadowAnswer.objects.get()
        tasks.answer_in_shadow(str(shadow.id))
        says(RuntimeError("must not be asked"))
        tasks.answer_in_shadow(str(shadow.id))
        shadow.refresh_from_db()
        assert (shadow.state, shadow.attempt) == (State.ANSWERED, 1)

    def test_while_somebody_waits_it_waits_and_is_sent_again_afterwards(
        self, challenger: ModelVersion, says: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        analysed(monkeypatch)
        OrmQ.objects.all().delete()
        urgent = AnalysisFactory()
        urgent.enqueue()
        shadow = ShadowAnswer.objects.get()
        tasks.answer_in_shadow(str(shadow.id))
        shadow.refresh_from_db()
        assert (shadow.state, shadow.attempt) == (State.WAITING, 0)
        tasks.analyse_image(str(urgent.id))
        assert messages()[-1] == shadowing.TASK

    @pytest.mark.parametrize(
        ("error", "sentence"),
        [(ModelFileError("The folder is damaged."), "The folder is damaged."), (RuntimeError("x"), shadowing.BROKEN)],
    )
    def test_it_may_fail_without_harm(
        self,
        challenger: ModelVersion,
        says: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
        error: Exception,
        sentence: str,
    ) -> None:
        done = analysed(monkeypatch)
        says(error)
        shadow = ShadowAnswer.objects.get()
        tasks.answer_in_shadow(str(shadow.id))
        shadow.refresh_from_db()
        done.refresh_from_db()
        assert (shadow.state, shadow.error, done.state) == (State.FAILED, sentence, Analysis.State.SUCCEEDED)

    def test_a_challenge_that_cannot_even_be_asked_for_fails_no_analysis(
        self, challenger: ModelVersion, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(analysis: Analysis) -> None:
            raise RuntimeError("no way")

        monkeypatch.setattr(shadowing, "ask_challenger", broken)
        assert analysed(monkeypatch).has_answer
        assert "the challenger could not be asked" in caplog.text

    def test_a_challenge_that_has_ended_is_dropped(
        self, challenger: ModelVersion, root: User, says: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for _ in range(2):
            analysed(monkeypatch)
        registry.stop_challenge(by=root)
        monkeypatch.setattr(registry, "challenger_model", lambda: None)
        first, second = ShadowAnswer.objects.all()
        tasks.answer_in_shadow(str(first.id))
        tasks.sweep()
        assert set(ShadowAnswer.objects.values_list("state", flat=True)) == {State.DROPPED}
        assert second != first


class TestSweeper:
    def test_a_crash_is_tried_once_more_and_then_given_up(
        self, challenger: ModelVersion, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        analysed(monkeypatch)
        shadow = ShadowAnswer.objects.get()
        states = []
        for _ in range(2):
            assert ShadowAnswer.objects.claim(shadow.id) is not None
            assert ShadowAnswer.objects.claim(shadow.id) is None
            tasks.sweep()
            shadow.refresh_from_db()
            assert shadow.state == State.RUNNING
            ShadowAnswer.objects.update(started_at=timezone.now() - timedelta(hours=1))
            OrmQ.objects.all().delete()
            tasks.sweep()
            shadow.refresh_from_db()
            states.append((shadow.state, messages()))
        assert states == [(State.WAITING, [shadowing.TASK]), (State.FAILED, [])]

    def test_a_late_attempt_writes_nothing(self, challenger: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> None:
        analysed(monkeypatch)
        late = ShadowAnswer.objects.claim(ShadowAnswer.objects.get().id)
        assert late is not None
        ShadowAnswer.objects.update(state=State.WAITING)
        assert ShadowAnswer.objects.claim(late.id) is not None
        assert not late.answer(answer(model_version="v2"))
        assert ShadowAnswer.objects.get().state == State.RUNNING


class TestComparison:
    def test_agreement_latency_and_corrections(
        self, challenger: ModelVersion, says: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        doctor = DoctorFactory()
        normal = {
            "adenocarcinoma": 0.1,
            "large_cell_carcinoma": 0.1,
            "normal": 0.7,
            "squamous_cell_carcinoma": 0.1,
        }
        cases = [
            # what the challenger says, what the doctor says
            ({}, "adenocarcinoma"),
            ({"probabilities": normal, "malignant_probability": 0.085}, "adenocarcinoma"),
            ({"probabilities": normal, "malignant_probability": 0.085}, "normal"),
            ({"probabilities": normal, "malignant_probability": 0.085}, "normal"),
            ({}, "unsure"),
            ({}, ""),
        ]
        for number, (changes, judged) in enumerate(cases):
            image = ImageFactory(study=StudyFactory(created_by=doctor))
            says(answer(model_version="v2", duration_ms=100 + 10 * number, **changes))
            analysed(monkeypatch, image=image)
            if judged:
                # The first judgement does not speak any more.
                ImageReview.objects.create(image=image, revision=1, diagnosis="large_cell_carcinoma", by=doctor)
                ImageReview.objects.create(image=image, revision=2, diagnosis=judged, by=doctor)
            waiting = ShadowAnswer.objects.get(analysis__image=image)
            tasks.answer_in_shadow(str(waiting.id))
        analysed(monkeypatch)
        found = ShadowAnswer.objects.of_version("v2").compare()
        assert (found.answers, found.waiting, found.failed) == (6, 1, 0)
        assert (found.class_agreement, found.verdict_agreement) == (0.5, 0.5)
        assert found.mean_difference == pytest.approx(0.4)
        assert found.challenger_latency.p50_ms == 125
        assert found.champion_latency.p50_ms == answer().duration_ms
        right = found.corrections
        assert (right.judged, right.champion_right, right.challenger_right) == (4, 2, 3)
        assert (right.only_champion_right, right.only_challenger_right) == (1, 2)
        assert right.p_value == 1.0
        assert ShadowAnswer.objects.of_hospital(doctor.hospital_id).compare().answers == 6
        assert ShadowAnswer.objects.of_hospital(DoctorFactory().hospital_id).compare().answers == 0
        assert found.to_json()["corrections"]["p_value"] == 1.0

    def test_without_answers_there_are_no_figures(self) -> None:
        found = ShadowAnswer.objects.compare()
        assert (found.answers, found.class_agreement, found.mean_difference) == (0, None, None)
        assert found.champion_latency.p95_ms is None
        assert found.corrections.p_value is None
