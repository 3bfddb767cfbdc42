"""Which passwords are refused, and with what sentence."""

import pytest
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse

from accounts.models import User
from tests.factories import DoctorFactory, HospitalFactory

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("password", "words"),
    [
        ("Password2024!", "leaked passwords"),
        ("P@ssw0rd123", "easy to guess"),
        ("qwertzuiop1", "easy to guess"),
        ("abcdefghijkl", "follow each other"),
        ("aaaaaaaaaaaa", "repeats itself"),
        ("abcabcabcabc", "repeats itself"),
        ("radiology123", "word of this portal"),
        ("iloveyou1234", "easy to guess"),
        ("12.03.1985", "easy to guess"),
    ],
)
def test_what_attackers_try_first_is_refused_with_the_reason(password: str, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        validate_password(password)
    assert words in " ".join(caught.value.messages)


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery staple",
        "three other words",
        "Ďurišová číta 7 kníh",
        "x" * 5 + "Vr7!kQz-m2",
        "日本語のとても長い合言葉です",
    ],
)
def test_words_that_do_not_belong_together_are_fine_in_every_script(password: str) -> None:
    validate_password(password)


def test_one_s_own_name_address_and_hospital_are_refused() -> None:
    hospital = HospitalFactory(name="Klinikum Grünwald")
    doctor = DoctorFactory.build(given_name="Philippa", family_name="Oppenheimer", email="po@klinik.example")
    doctor.hospital = hospital
    for password in ("Oppenheimer7", "philippa2024", "klinik.example", "Grünwald1"):
        with pytest.raises(ValidationError):
            validate_password(password, doctor)


def test_a_very_long_password_is_judged_at_once() -> None:
    validate_password("Vr7!kQz-m2 " * 90)
    with pytest.raises(ValidationError):
        validate_password("a" * 4000)


def test_sign_up_shows_the_sentence_and_makes_nobody(client: Client) -> None:
    answers = {
        "given_name": "P",
        "family_name": "E",
        "email": "p@example.org",
        "password1": "Password2024!",
        "password2": "Password2024!",
    }
    page = client.post(reverse("account_signup"), answers).content.decode()
    assert "stands in lists of leaked passwords" in page
    assert "Four or more words" in page
    assert not User.objects.exists()
