"""Which model answers: every transition and every forbidden one, the margins, and damaged folders."""

import json
import shutil
from pathlib import Path

import pytest
from django.core.exceptions import PermissionDenied
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from pytest_django.fixtures import Settings

from accounts.models import AccessEvent, User
from ml import registry
from ml.errors import ModelFileError, PromotionRefusedError, RegistryError
from ml.models import Deployment, Event, ModelVersion
from ml.reference import REFERENCE_NAME
from ml.runtime import STARTER_DIRECTORY, keep_models, loaded_folders
from tests.factories import AdministratorFactory
from tests.model_folders import first_champion, model_folder, registered

pytestmark = pytest.mark.django_db
State = ModelVersion.State


@pytest.fixture
def root() -> User:
    """Who may change the model in use."""
    return User.objects.create_superuser("root@example.org", "a-long-password", given_name="R", family_name="O")


def states() -> dict[str, str]:
    return dict(ModelVersion.objects.values_list("version", "state"))


def damage(row: ModelVersion) -> None:
    """Change one byte of a network and leave the card alone."""
    path = next(row.folder.glob("outline*"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    path.write_bytes(content)


class TestRegister:
    def test_the_folder_is_copied_checked_and_registered(self, tmp_path: Path, settings: Settings, root: User) -> None:
        source = model_folder(tmp_path / "source", version="v1", malignancy_auc=0.91)
        row = registry.register(source, by=root, note="more data")
        assert (row.version, row.state, row.note, row.registered_by) == ("v1", State.REGISTERED, "more data", root)
        assert row.folder == Path(settings.MODELS_DIR) / "v1"
        assert {path.name for path in row.folder.iterdir()} == {path.name for path in source.iterdir()}
        assert row.figure("malignancy_auc") == 0.91
        assert [path.name for path in Path(settings.MODELS_DIR).iterdir()] == ["v1"]
        # Only to try it out was it in memory.
        assert row.folder.resolve() not in loaded_folders()

    def test_the_same_twice_is_one_version(self, tmp_path: Path) -> None:
        source = model_folder(tmp_path / "source", version="v1")
        assert registry.register(source) == registry.register(source)
        assert ModelVersion.objects.count() == 1

    def test_a_version_that_exists_with_other_content_is_refused(self, tmp_path: Path) -> None:
        registered("v1", has_networks=True)
        other = model_folder(tmp_path / "other", version="v1", malignancy_auc=0.99)
        with pytest.raises(RegistryError, match="holds something else"):
            registry.register(other)
        assert ModelVersion.objects.get().figure("malignancy_auc") == 0.88

    def test_a_damaged_folder_is_refused_and_leaves_nothing(self, tmp_path: Path, settings: Settings) -> None:
        source = model_folder(tmp_path / "source", version="v1")
        (source / "outline.tflite").unlink()
        (source / "outline.tflite").write_bytes(b"something else")
        with pytest.raises(ModelFileError, match="SHA-256 differs"):
            registry.register(source)
        assert not Path(settings.MODELS_DIR).exists()
        assert not ModelVersion.objects.exists()

    def test_networks_that_do_not_answer_are_no_version(self, tmp_path: Path) -> None:
        with pytest.raises(ModelFileError, match="cannot be loaded"):
            registry.register(model_folder(tmp_path / "source", version="v1", has_networks=False))
        assert not ModelVersion.objects.exists()

    @pytest.mark.parametrize("version", ["", "../up", ".hidden", "a/b", "x" * 61])
    def test_a_version_is_a_name_that_leads_nowhere_else(self, tmp_path: Path, version: str) -> None:
        source = model_folder(tmp_path / "source", version=version, has_networks=False)
        with pytest.raises(RegistryError, match="names the version"):
            registry.register(source)

    def test_a_reference_that_is_made_later_damages_nothing(self, root: User) -> None:
        first_champion()
        row = registered("v2")
        (row.folder / REFERENCE_NAME).write_bytes(b"made from what was registered")
        registry.promote("v2", by=root)
        assert registry.champion() == registry.named("v2")

    def test_a_link_in_the_folder_is_not_followed(self, tmp_path: Path) -> None:
        source = model_folder(tmp_path / "source", version="v1")
        (source / "secret.txt").symlink_to("/etc/hostname")
        with pytest.raises(ModelFileError, match="no plain file"):
            registry.register(source)

    def test_the_starter_is_the_first_champion(self) -> None:
        row = registry.ensure_champion()
        assert row.is_champion
        assert row.version == json.loads((STARTER_DIRECTORY / "model.json").read_text())["version"]
        assert Deployment.objects.get().kind == Deployment.Kind.FIRST
        assert registry.ensure_champion() == row
        assert Deployment.objects.count() == 1


class TestPromote:
    def test_the_new_one_answers_and_the_old_one_retires(self, root: User) -> None:
        first = first_champion()
        registered("v2")
        done = registry.promote("v2", by=root, reason="better outlines", address="192.0.2.7")
        assert states() == {"first": State.RETIRED, "v2": State.CHAMPION}
        assert (done.kind, done.version.version, done.replaced, done.by) == ("promoted", "v2", first, root)
        assert (done.reason, done.is_forced, done.address) == ("better outlines", False, "192.0.2.7")
        assert registry.serving_directory() == registry.named("v2").folder

    def test_it_is_on_record(self, root: User, django_capture_on_commit_callbacks: object) -> None:
        first_champion()
        registered("v2")
        with django_capture_on_commit_callbacks(execute=True):  # type: ignore[operator]
            registry.promote("v2", by=root, reason="better outlines")
        event = AccessEvent.objects.get(action="deployed")
        assert (event.actor, event.target_id) == (root, registry.named("v2").pk)
        assert event.note == "promoted v2; instead of first; reason: better outlines"
        logged = Event.objects.get(kind="deployment")
        assert (logged.message, logged.details["replaced"]) == ("Model v2: promoted.", "first")

    def test_the_command_line_is_on_record_by_its_account(self) -> None:
        first_champion()
        registered("v2")
        done = registry.promote("v2", by=None)
        assert done.operator
        assert done.who == done.operator
        assert f"at the command line, account {done.operator}" in AccessEvent.objects.get(action="deployed").note

    @pytest.mark.parametrize(
        ("figure", "value"),
        [
            ("test_unseen_accuracy", 0.82),
            ("malignancy_auc", 0.85),
            ("lidc_dice_ge30px", 0.61),
            ("slice_dice", 0.6),
            ("false_positives_per_normal_slice", 0.71),
            ("grouped_cv_macro_f1", 0.6),
            ("grouped_cv_ece", 0.2),
            ("slice_dice", None),
            ("grouped_cv_macro_f1", None),
        ],
    )
    def test_a_worse_or_missing_figure_is_refused(self, root: User, figure: str, value: float | None) -> None:
        first_champion(grouped_cv_macro_f1=0.67, grouped_cv_ece=0.11)
        registered("v2", **({"grouped_cv_macro_f1": 0.67, "grouped_cv_ece": 0.11} | {figure: value}))
        with pytest.raises(PromotionRefusedError, match=figure) as refused:
            registry.promote("v2", by=root)
        assert len(refused.value.objections) == 1
        assert states() == {"first": State.CHAMPION, "v2": State.REGISTERED}
        assert not AccessEvent.objects.filter(action="deployed").exists()

    def test_just_within_the_margin_is_allowed(self, root: User) -> None:
        first_champion()
        registered("v2", malignancy_auc=0.86, false_positives_per_normal_slice=0.7, slice_dice=0.67)
        registry.promote("v2", by=root)
        assert registry.champion() == registry.named("v2")

    def test_figures_with_leaks_do_not_count(self, root: User) -> None:
        first_champion(official_test_accuracy=0.99)
        registered("v2", official_test_accuracy=0.5)
        registry.promote("v2", by=root)
        assert registry.champion() == registry.named("v2")

    def test_the_margins_are_settings(self, root: User, settings: Settings) -> None:
        first_champion()
        registered("v2", malignancy_auc=0.8)
        settings.PROMOTION_MARGIN = 0.1
        registry.promote("v2", by=root)
        assert registry.champion() == registry.named("v2")

    def test_force_needs_a_reason_and_is_recorded(self, root: User) -> None:
        first_champion()
        registered("v2", malignancy_auc=0.5, slice_dice=None)
        with pytest.raises(RegistryError, match="needs a reason"):
            registry.promote("v2", by=root, is_forced=True, reason="  ")
        done = registry.promote("v2", by=root, is_forced=True, reason="the old one crashes")
        assert done.is_forced
        assert len(done.objections) == 2
        assert "forced" in AccessEvent.objects.get(action="deployed").note

    def test_force_that_was_not_needed_is_no_force(self, root: User) -> None:
        first_champion()
        registered("v2")
        assert not registry.promote("v2", by=root, is_forced=True, reason="to be sure").is_forced

    def test_without_a_champion_the_model_in_place_becomes_the_first(self, root: User) -> None:
        registered("v2", malignancy_auc=0.95, test_unseen_accuracy=0.9, test_unseen_macro_f1=0.9)
        with pytest.raises(PromotionRefusedError, match="grouped_cv"):
            registry.promote("v2", by=root)
        registry.promote("v2", by=root, is_forced=True, reason="a test without cross-validation")
        done = registry.rollback(by=root)
        assert done.version.version == json.loads((STARTER_DIRECTORY / "model.json").read_text())["version"]

    def test_forbidden_ones(self, root: User) -> None:
        first_champion()
        with pytest.raises(RegistryError, match="answers already"):
            registry.promote("first", by=root)
        with pytest.raises(RegistryError, match="There is no version"):
            registry.promote("nowhere", by=root)
        broken = registered("v2")
        damage(broken)
        with pytest.raises(ModelFileError, match="not what was registered"):
            registry.promote("v2", by=root, is_forced=True, reason="whatever")
        assert states() == {"first": State.CHAMPION, "v2": State.REGISTERED}

    def test_a_hospitals_administrator_may_not(self) -> None:
        first_champion()
        registered("v2")
        for act in (
            lambda who: registry.promote("v2", by=who),
            lambda who: registry.rollback(by=who),
            lambda who: registry.challenge("v2", share=0.5, by=who),
            lambda who: registry.stop_challenge(by=who),
        ):
            with pytest.raises(PermissionDenied):
                act(AdministratorFactory())
        assert states() == {"first": State.CHAMPION, "v2": State.REGISTERED}

    def test_what_goes_wrong_afterwards_leaves_all_as_it_was(self, root: User, settings: Settings) -> None:
        first_champion()
        registered("v2")
        settings.AFTER_DEPLOYMENT = ["tests.ml.test_registry.break_down"]
        with pytest.raises(ZeroDivisionError):
            registry.promote("v2", by=root)
        assert states() == {"first": State.CHAMPION, "v2": State.REGISTERED}
        assert Deployment.objects.count() == 1


def break_down(deployment: Deployment) -> None:
    raise ZeroDivisionError


class TestRollback:
    def test_twice_goes_back_two_steps_and_then_no_further(self, root: User) -> None:
        first_champion()
        for version in ("v2", "v3"):
            registered(version)
            registry.promote(version, by=root)
        assert registry.rollback(by=root, reason="misses tumours").version.version == "v2"
        assert registry.rollback(by=root).version.version == "first"
        with pytest.raises(RegistryError, match="nothing was promoted before"):
            registry.rollback(by=root)
        assert states() == {"first": State.CHAMPION, "v2": State.RETIRED, "v3": State.RETIRED}
        assert [row.kind for row in Deployment.objects.all()] == ["rolled_back"] * 2 + ["promoted"] * 2 + ["first"]

    def test_a_promotion_after_a_rollback_goes_back_to_what_was_rolled_back_to(self, root: User) -> None:
        first_champion()
        for version in ("v2", "v3"):
            registered(version)
        registry.promote("v2", by=root)
        registry.rollback(by=root)
        registry.promote("v3", by=root)
        assert registry.rollback(by=root).version.version == "first"

    def test_figures_are_not_asked(self, root: User) -> None:
        first_champion(malignancy_auc=0.6)
        registered("v2")
        registry.promote("v2", by=root)
        assert registry.rollback(by=root).version.version == "first"

    def test_a_damaged_one_is_passed_over(self, root: User) -> None:
        first_champion()
        for version in ("v2", "v3"):
            registered(version)
            registry.promote(version, by=root)
        damage(registry.named("v2"))
        done = registry.rollback(by=root, reason="misses tumours")
        assert done.version.version == "first"
        assert done.reason == "misses tumours Passed over, because its folder is damaged: v2."
        assert states()["v2"] == State.RETIRED

    def test_where_all_are_damaged_it_says_so(self, root: User) -> None:
        damage(first_champion())
        registered("v2")
        registry.promote("v2", by=root)
        with pytest.raises(RegistryError, match="folders of first are damaged"):
            registry.rollback(by=root)
        assert states() == {"first": State.RETIRED, "v2": State.CHAMPION}


class TestChallenge:
    def test_one_challenges_for_a_share_until_it_is_ended(self, root: User) -> None:
        first_champion()
        registered("v2")
        registry.challenge("v2", share=0.2, by=root)
        assert (states()["v2"], registry.named("v2").challenge_share) == (State.CHALLENGER, 0.2)
        registry.challenge("v2", share=0.5, by=root)
        assert registry.named("v2").challenge_share == 0.5
        registry.stop_challenge(by=root)
        assert (states()["v2"], registry.named("v2").challenge_share) == (State.REGISTERED, None)
        notes = AccessEvent.objects.filter(action="deployed").order_by("sequence").values_list("note", flat=True)
        assert list(notes) == ["challenged v2; share 0.2", "challenged v2; share 0.5", "challenge_ended v2"]

    def test_whoever_has_answered_before_retires_again(self, root: User) -> None:
        first_champion()
        registered("v2")
        registry.promote("v2", by=root)
        registry.challenge("first", share=1, by=root)
        registry.stop_challenge(by=root)
        assert states()["first"] == State.RETIRED

    def test_a_challenger_that_is_promoted_challenges_no_more(self, root: User) -> None:
        first_champion()
        registered("v2")
        registry.challenge("v2", share=0.2, by=root)
        registry.promote("v2", by=root)
        assert (states()["v2"], registry.named("v2").challenge_share) == (State.CHAMPION, None)
        assert registry.challenger() is None

    def test_forbidden_ones(self, root: User) -> None:
        first_champion()
        registered("v2")
        registered("v3")
        for share in (0, -0.1, 1.1, float("nan")):
            with pytest.raises(RegistryError, match="share"):
                registry.challenge("v2", share=share, by=root)
        with pytest.raises(RegistryError, match="answers already"):
            registry.challenge("first", share=0.5, by=root)
        with pytest.raises(RegistryError, match="No version challenges"):
            registry.stop_challenge(by=root)
        registry.challenge("v2", share=0.5, by=root)
        with pytest.raises(RegistryError, match="v2 challenges already"):
            registry.challenge("v3", share=0.5, by=root)
        damage(registry.named("v3"))
        registry.stop_challenge(by=root)
        with pytest.raises(ModelFileError):
            registry.challenge("v3", share=0.5, by=root)


class TestConstraints:
    @pytest.mark.parametrize(
        "changes",
        [
            {"state": "champion"},
            {"state": "challenger"},
            {"state": "challenger", "challenge_share": 0.0},
            {"state": "challenger", "challenge_share": 1.5},
            {"challenge_share": 0.5},
            {"state": "elsewhere"},
        ],
    )
    def test_the_database_refuses(self, changes: dict[str, object]) -> None:
        first_champion()
        row = registered("v2")
        with pytest.raises(IntegrityError), transaction.atomic():
            ModelVersion.objects.filter(pk=row.pk).update(**changes)

    def test_what_was_done_stays_on_record(self, root: User) -> None:
        row = first_champion()
        done = Deployment.objects.get()
        for act in (done.save, done.delete, Deployment.objects.all().delete):
            with pytest.raises(PermissionDenied):
                act()
        with pytest.raises(PermissionDenied):
            Deployment.objects.update(reason="another")
        for values in ({"operator": ""}, {"is_forced": True, "operator": "x"}):
            with pytest.raises(IntegrityError), transaction.atomic():
                Deployment.objects.create(kind="promoted", version=row, **values)


class TestServing:
    def test_without_any_row_the_starter_answers(self) -> None:
        assert registry.serving_directory() == STARTER_DIRECTORY
        assert registry.serving_model().version == registry.serving_model().card["version"]

    def test_one_query_an_analysis(self, django_assert_num_queries: object) -> None:
        first_champion(has_networks=True)
        registry.serving_model()
        with django_assert_num_queries(1):  # type: ignore[operator]
            registry.serving_model()
        with django_assert_num_queries(1):  # type: ignore[operator]
            registry.serving_directory()

    def test_a_promotion_is_served_at_once_and_the_old_one_leaves_memory(self, root: User) -> None:
        keep_models([])
        first, second = first_champion(has_networks=True), registered("v2", has_networks=True)
        registry.challenge("v2", share=0.5, by=root)
        assert registry.serving_model().version == "first"
        assert registry.challenger_model().version == "v2"  # type: ignore[union-attr]
        assert set(loaded_folders()) == {first.folder.resolve(), second.folder.resolve()}
        registry.promote("v2", by=root)
        assert registry.serving_model().version == "v2"
        assert set(loaded_folders()) == {second.folder.resolve()}

    @pytest.mark.parametrize("how", ["network", "card", "gone"])
    def test_a_damaged_champion_is_stood_in_for_by_the_one_before(
        self, root: User, how: str, mailoutbox: list[object], caplog: pytest.LogCaptureFixture
    ) -> None:
        keep_models([])
        first_champion(has_networks=True)
        row = registered("v2", has_networks=True)
        registry.promote("v2", by=root)
        {
            "network": lambda: damage(row),
            "card": lambda: (row.folder / "model.json").write_text("{}"),
            "gone": lambda: shutil.rmtree(row.folder),
        }[how]()
        for _ in range(2):
            assert registry.serving_model().version == "first"
        assert "The champion v2 is damaged; version first answers in its place" in caplog.text
        assert [mail.to for mail in mailoutbox] == [[root.email]]  # type: ignore[attr-defined]
        assert "first" in mailoutbox[0].body  # type: ignore[attr-defined]
        assert states()["v2"] == State.CHAMPION
        assert Event.objects.filter(kind="deployment", level="error").exists()

    def test_with_nothing_to_go_back_to_the_starter_stands_in(self) -> None:
        row = first_champion()
        (row.folder / "model.json").unlink()
        assert registry.serving_directory() == STARTER_DIRECTORY
        assert registry.serving().damage
        assert registry.serving_model().version != "first"

    def test_where_nothing_can_be_loaded_it_is_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        row = first_champion()
        shutil.rmtree(row.folder)
        monkeypatch.setenv("IRA_MODEL_DIR", str(tmp_path / "nowhere"))
        with pytest.raises(ModelFileError):
            registry.serving_model()


class TestCommands:
    def test_the_whole_way(self, tmp_path: Path, root: User, capsys: pytest.CaptureFixture[str]) -> None:
        first_champion()
        source = model_folder(tmp_path / "source", version="v2", malignancy_auc=0.5)
        call_command("register", str(source), "--note", "quick")
        with pytest.raises(CommandError, match="malignancy_auc"):
            call_command("promote", "v2")
        with pytest.raises(CommandError, match="needs a reason"):
            call_command("promote", "v2", "--force")
        call_command("promote", "v2", "--force", "--reason", "urgent", "--by", "ROOT@example.org")
        call_command("challenge", "first", "--share", "0.25")
        call_command("models")
        call_command("challenge", "--stop")
        call_command("rollback", "--reason", "wrong")
        call_command("models", "--history")
        shown = capsys.readouterr().out
        assert "The model v2 answers instead of first, forced." in shown
        assert "challenger 25%" in shown
        assert "by R O, forced: urgent" in shown
        assert "rolled back to first instead of v2" in shown

    def test_the_list_as_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        first_champion()
        call_command("models", "--json", "--check")
        (one,) = json.loads(capsys.readouterr().out)
        assert (one["version"], one["state"], one["damage"]) == ("first", "champion", "")
        assert one["figures"]["malignancy_auc"]["value"] == 0.88

    def test_a_damage_is_named_and_ends_with_an_error(self) -> None:
        damage(first_champion())
        with pytest.raises(CommandError, match="Damaged: first"):
            call_command("models", "--check")

    def test_an_empty_registry_says_what_to_do(self, capsys: pytest.CaptureFixture[str]) -> None:
        call_command("models")
        assert "models --ensure-starter" in capsys.readouterr().out

    def test_a_broken_folder_in_place_keeps_no_portal_from_starting(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("IRA_MODEL_DIR", str(tmp_path / "nowhere"))
        with pytest.raises(CommandError, match="nowhere"):
            call_command("models", "--ensure-starter")
        first_champion()
        call_command("models", "--ensure-starter")

    def test_wrong_words_are_answered_with_a_sentence(self) -> None:
        first_champion()
        for arguments in (["challenge"], ["challenge", "first", "--stop"], ["rollback"]):
            with pytest.raises(CommandError, match=r"\.$"):
                call_command(*arguments)
        with pytest.raises(CommandError, match="Nobody logs in"):
            call_command("rollback", "--by", "nobody@example.org")
        AdministratorFactory(email="admin@example.org")
        with pytest.raises(CommandError, match="may not change"):
            call_command("rollback", "--by", "admin@example.org")
