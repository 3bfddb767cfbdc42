"""Factories that build through the real models, defaults and grants."""

import datetime
from typing import Any

import factory
from django.utils import timezone

from accounts.models import Hospital, Role, User


class HospitalFactory(factory.django.DjangoModelFactory):
    """A hospital with a name of its own."""

    class Meta:
        model = Hospital

    name = factory.Sequence(lambda n: f"Hospital {n}")
    department = "Radiology"


class UserFactory(factory.django.DjangoModelFactory):
    """A patient who may log in; the password is ``a-long-password``."""

    class Meta:
        model = User
        skip_postgeneration_save = True

    email = factory.Sequence(lambda n: f"person{n}@example.org")
    given_name = factory.Sequence(lambda n: f"Given{n}")
    family_name = factory.Sequence(lambda n: f"Family{n}")
    role = Role.PATIENT

    @classmethod
    def _create(cls, model_class: type[User], *args: Any, **kwargs: Any) -> User:
        return model_class.objects.create_user(password=kwargs.pop("password", "a-long-password"), **kwargs)


class DoctorFactory(UserFactory):
    """An approved doctor of a hospital."""

    role = Role.DOCTOR
    hospital = factory.SubFactory(HospitalFactory)
    approved_at = factory.LazyFunction(timezone.now)


class AdministratorFactory(UserFactory):
    """An administrator of a hospital."""

    role = Role.ADMINISTRATOR
    is_staff = True
    hospital = factory.SubFactory(HospitalFactory)


BIRTH_DATE = datetime.date(1960, 5, 17)
