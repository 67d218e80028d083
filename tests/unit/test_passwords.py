import pytest

from auth.passwords import Passwords, weakness

CHEAP = Passwords(memory_kib=1024, passes=1)


def test_a_password_verifies_against_its_own_hash_only():
    hashed = CHEAP.hash("three quiet otters")
    assert CHEAP.verify(hashed, "three quiet otters")
    assert not CHEAP.verify(hashed, "three quiet otter")
    assert not CHEAP.verify(hashed, "three quiet otters ")


def test_hashes_are_argon2id_with_their_own_salt():
    one, two = CHEAP.hash("three quiet otters"), CHEAP.hash("three quiet otters")
    assert one.startswith("$argon2id$v=19$m=1024,t=1,p=1$")
    assert one != two


def test_every_character_of_a_long_password_counts():
    hashed = CHEAP.hash("ж" * 255 + "a")
    assert CHEAP.verify(hashed, "ж" * 255 + "a")
    assert not CHEAP.verify(hashed, "ж" * 255 + "b")


def test_raised_parameters_ask_for_a_new_hash():
    hashed = CHEAP.hash("three quiet otters")
    assert not CHEAP.needs_rehash(hashed)
    assert Passwords(memory_kib=2048, passes=1).needs_rehash(hashed)
    assert Passwords(memory_kib=1024, passes=2).needs_rehash(hashed)


@pytest.mark.parametrize("damaged", ["", "x", "$argon2id$v=19$m=1024,t=1,p=1$", "$2b$12$abc"])
def test_a_damaged_hash_is_a_wrong_password_and_no_error(damaged: str):
    assert not CHEAP.verify(damaged, "three quiet otters")


@pytest.mark.parametrize(
    "password",
    [
        "password1234",
        "Password2026!",
        "aaaaaaaaaaaa",
        "abcabcabcabc",
        "123456789012",
        "210987654321",
        "qwertyuiopas",
        "correcthorsebatterystaple",
        "collab-server-2026",
        "anna@example.com",
        "administrator",
        "letmeinplease!!",
    ],
)
def test_what_everybody_guesses_first_is_refused(password: str):
    assert weakness(password, email="anna@example.com") is not None


@pytest.mark.parametrize("password", ["three quiet otters", "8341 9527 1160", "Кот спит на окне", "x9#kT2!vQp7&"])
def test_no_composition_is_demanded(password: str):
    assert weakness(password, email="anna@example.com") is None


def test_a_local_part_with_digits_around_it_is_the_address_in_disguise():
    assert weakness("annabellissima99", email="annabellissima@example.com") is not None
