"""Changing the model in use from the administration and by the API: who may, what is asked, what is recorded."""

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django.asserts import assertContains, assertNotContains

from accounts.models import AccessEvent, User
from accounts.roles import apply_role, let_change_the_model, let_change_the_model_no_more
from ml import registry
from ml.models import Deployment, ModelVersion
from tests.factories import AdministratorFactory, DoctorFactory
from tests.model_folders import first_champion, registered
from tests.programs import Program, is_problem

pytestmark = pytest.mark.django_db
LIST = "admin:ml_modelversion_changelist"


@pytest.fixture
def root() -> User:
    return User.objects.create_superuser("root@example.org", "a-long-password", given_name="Rosa", family_name="Root")


@pytest.fixture
def manager() -> User:
    """An administrator of a hospital to whom a superuser gave the right."""
    user = AdministratorFactory()
    apply_role(user)
    let_change_the_model(user)
    return User.objects.get(pk=user.pk)


@pytest.fixture
def second() -> ModelVersion:
    first_champion()
    return registered("v2")


def address(act: str, row: ModelVersion | None = None) -> str:
    return reverse(f"admin:ml_modelversion_{act}", kwargs={"object_id": row.pk} if row is not None else {})


class TestAdministration:
    def test_a_promotion_shows_the_figures_asks_and_is_recorded(
        self, client: Client, manager: User, second: ModelVersion
    ) -> None:
        client.force_login(manager)
        assertContains(
            client.get(reverse("admin:ml_modelversion_change", args=[second.pk])), address("promote", second)
        )
        page = client.get(address("promote", second))
        assertContains(page, "malignancy_auc")
        assert registry.champion() != second
        done = client.post(address("promote", second), {"reason": "better", "confirmed": "1"}, follow=True)
        assertContains(done, "promoted v2")
        made = Deployment.objects.in_force()
        assert made is not None
        assert (made.by, made.reason, made.address, registry.champion()) == (manager, "better", "127.0.0.1", second)
        event = AccessEvent.objects.get(action="deployed")
        assert (event.actor, event.address) == (manager, "127.0.0.1")

    def test_a_worse_one_is_refused_with_its_figures_and_forced_with_a_reason_only(
        self, client: Client, root: User
    ) -> None:
        first_champion()
        worse = registered("v2", malignancy_auc=0.5)
        client.force_login(root)
        for data in ({"reason": ""}, {"reason": "", "is_forced": "on"}):
            page = client.post(address("promote", worse), data | {"confirmed": "1"})
            assert page.status_code == 400
        assertContains(page, "a forced promotion needs a reason", status_code=400)
        assert registry.champion() != worse
        client.post(address("promote", worse), {"reason": "the old one crashes", "is_forced": "on"})
        assert registry.champion() == worse
        assertContains(client.get(reverse("admin:ml_deployment_changelist")), "the old one crashes")

    def test_rollback_challenge_and_its_end(self, client: Client, root: User, second: ModelVersion) -> None:
        client.force_login(root)
        client.post(address("challenge", second), {"percent": "25"})
        second.refresh_from_db()
        assert (second.state, second.challenge_share) == ("challenger", 0.25)
        assertContains(client.get(reverse(LIST)), address("end_challenge"))
        client.post(address("end_challenge"), {"confirmed": "1"})
        client.post(address("promote", second), {"confirmed": "1"})
        client.post(address("rollback"), {"reason": "misses tumours"})
        kinds = list(Deployment.objects.order_by("id").values_list("kind", flat=True))
        assert kinds == ["first", "challenged", "challenge_ended", "promoted", "rolled_back"]
        assertContains(client.post(address("rollback"), {"confirmed": "1"}), "nothing was promoted", status_code=400)

    def test_other_administrators_look_and_change_nothing(self, client: Client, second: ModelVersion) -> None:
        user = AdministratorFactory()
        apply_role(user)
        client.force_login(user)
        assertContains(client.get(reverse(LIST)), "v2")
        page = client.get(reverse("admin:ml_modelversion_change", args=[second.pk]))
        assertNotContains(page, address("promote", second))
        for act in ("promote", "challenge"):
            assert client.post(address(act, second), {"reason": "x", "percent": "5"}).status_code == 403
        for act in ("rollback", "end_challenge"):
            assert client.post(address(act), {"confirmed": "1"}).status_code == 403
        assert Deployment.objects.count() == 1


class TestRight:
    def test_superusers_give_and_take_it(self, client: Client, root: User) -> None:
        user = AdministratorFactory()
        apply_role(user)
        client.force_login(root)

        def act(action: str, person: User) -> str:
            data = {"action": action, "_selected_action": [str(person.pk)]}
            page = client.post(reverse("admin:accounts_user_changelist"), data, follow=True)
            return page.content.decode()

        assert "1 person may change the model in use." in act("model_manager", user)
        assert registry.may_promote(User.objects.get(pk=user.pk))
        assert "may do it already" in act("model_manager", user)
        assert "1 person may change the model in use no more." in act("no_model_manager", user)
        assert not registry.may_promote(User.objects.get(pk=user.pk))
        assert "is no administrator" in act("model_manager", DoctorFactory())
        notes = AccessEvent.objects.filter(target_id=user.pk, action="changed").values_list("note", flat=True)
        assert set(notes) == {"may change the model in use", "may change the model in use no more"}

    def test_others_cannot_give_it(self, client: Client, manager: User) -> None:
        client.force_login(manager)
        colleague = AdministratorFactory(hospital=manager.hospital)
        data = {"action": "model_manager", "_selected_action": [str(colleague.pk)]}
        client.post(reverse("admin:accounts_user_changelist"), data, follow=True)
        assert not registry.may_promote(User.objects.get(pk=colleague.pk))

    def test_whoever_is_no_administrator_any_more_loses_it(self, manager: User) -> None:
        manager.role, manager.is_staff = "doctor", False
        manager.save()
        apply_role(manager)
        assert not registry.may_promote(User.objects.get(pk=manager.pk))
        assert not let_change_the_model_no_more(manager)

    def test_whoever_is_deactivated_may_nothing(self, manager: User) -> None:
        manager.deactivate()
        assert not registry.may_promote(User.objects.get(pk=manager.pk))


class TestApi:
    def test_the_whole_way(self, manager: User, second: ModelVersion) -> None:
        program = Program(manager)
        versions = program.get("models/").json()["results"]
        assert {(one["version"], one["state"]) for one in versions} == {("first", "champion"), ("v2", "registered")}
        here = f"models/{second.pk}/"
        one = program.get(here).json()
        assert {figure["name"] for figure in one["compared"]} >= {"malignancy_auc", "slice_dice"}
        assert one["shadow"] is None
        assert program.post(f"{here}challenge/", {"share": 0.5}).json()["challenge_share"] == 0.5
        assert program.post("models/challenge/end/").json()["kind"] == "challenge_ended"
        done = program.post(f"{here}promote/", {"reason": "better"}).json()
        assert (done["kind"], done["version"], done["replaced"], done["who"]) == (
            "promoted",
            "v2",
            "first",
            str(manager),
        )
        assert is_problem(program.post(f"{here}promote/", {}), 409, "answers already")
        assert program.post("models/rollback/", {"reason": "worse"}).json()["version"] == "first"
        history = program.get("models/history/").json()["results"]
        assert [one["kind"] for one in history] == ["rolled_back", "promoted", "challenge_ended", "challenged", "first"]

    def test_a_refusal_names_what_speaks_against_it(self, manager: User) -> None:
        first_champion()
        worse = registered("v2", malignancy_auc=0.5, slice_dice=None)
        program = Program(manager)
        refused = program.post(f"models/{worse.pk}/promote/", {})
        assert is_problem(refused, 409, "malignancy_auc", "slice_dice")
        assert len(refused.json()["objections"]) == 2
        forced = program.post(f"models/{worse.pk}/promote/", {"force": True, "reason": "urgent"}).json()
        assert (forced["is_forced"], len(forced["objections"])) == (True, 2)

    def test_a_token_needs_the_scope(self, manager: User, second: ModelVersion) -> None:
        program = Program(manager, scopes=["read", "write"])
        assert program.get(f"models/{second.pk}/").status_code == 200
        assert is_problem(program.post(f"models/{second.pk}/promote/", {}), 403, "models")

    def test_wrong_shares_are_refused(self, manager: User, second: ModelVersion) -> None:
        program = Program(manager)
        for share in (0, 1.5):
            assert is_problem(program.post(f"models/{second.pk}/challenge/", {"share": share}), 409, "at most 1")
