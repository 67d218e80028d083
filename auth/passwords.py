"""Passwords: argon2id, and the refusal of those everybody guesses first."""

import re
from dataclasses import dataclass

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

MIN_LENGTH = 12
MAX_LENGTH = 256  # characters; far beyond any passphrase, and a bound on what one request makes us hash

_PRODUCT_WORDS = ("collab", "collabserver", "collab-server")
_COMMON_WORDS = frozenset(
    """
    password passwort passw0rd p@ssword p@ssw0rd mypassword newpassword thepassword password1password
    qwerty qwertyuiop qwertyqwerty azerty letmein letmeinplease welcome welcomeback iloveyou iloveyousomuch
    monkey dragon football baseball basketball superman batman princess sunshine trustno1 master shadow
    michael jordan jennifer hunter charlie andrew daniel jessica changeme changemenow changeit secret
    secretpassword supersecret topsecret administrator admin administrador adminadmin root rootroot toor
    login guest default test testtest testing testpassword temppassword temporary whatever freedom
    startrek starwars computer internet samsung google facebook correcthorse correcthorsebatterystaple
    onetwothreefour abcdefgh zaq12wsx 1qaz2wsx 1q2w3e4r 1q2w3e4r5t 1q2w3e4r5t6y q1w2e3r4t5y6 pokemon naruto
    пароль парольпароль йцукен йцукенгшщзхъ привет любовь
    """.split()  # noqa: SIM905  (a list of words reads best as words)
)
_RUNS = (
    "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz",
    "01234567890123456789012345678901234567890123456789",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertyuiop[]asdfghjkl;'zxcvbnm,./",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik",
    "йцукенгшщзхъфывапролджэячсмитьбю",
    "абвгдеёжзийклмнопрстуфхцчшщъыьэюя",
)
_AROUND_A_WORD = re.compile(r"^[\W\d_]+|[\W\d_]+$")
_REPEATED = re.compile(r"^(.{1,4})\1+(?:.{0,3})$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Passwords:
    """argon2id with the parameters handed in (OWASP's floor: 19 MiB, two passes, one lane).

    ``verify`` and ``hash`` take tens of milliseconds of CPU and release the GIL: call them in a thread.
    """

    memory_kib: int
    passes: int

    @property
    def _hasher(self) -> PasswordHasher:
        return PasswordHasher(
            time_cost=self.passes,
            memory_cost=self.memory_kib,
            parallelism=1,
            hash_len=32,
            salt_len=16,
            type=Type.ID,
        )

    def hash(self, password: str) -> str:
        """A PHC string with its own random salt."""
        return str(self._hasher.hash(password))

    def verify(self, hashed: str, password: str) -> bool:
        """Whether ``password`` made ``hashed``. A damaged hash is a wrong password, not an error."""
        try:
            return bool(self._hasher.verify(hashed, password))
        except (VerificationError, InvalidHashError):
            return False

    def needs_rehash(self, hashed: str) -> bool:
        """Whether ``hashed`` was made with other parameters than today's."""
        return bool(self._hasher.check_needs_rehash(hashed))


def weakness(password: str, *, email: str = "") -> str | None:
    """Why this password is among the first that are guessed, as a sentence, or None when it is not.

    Small on purpose: length is checked elsewhere, composition is not demanded (NIST SP 800-63B 3.1.1.2).
    """
    folded = password.casefold().strip()
    word = _AROUND_A_WORD.sub("", folded)
    local_part = email.partition("@")[0].casefold()
    if folded in _COMMON_WORDS or word in _COMMON_WORDS:
        return "This is one of the most common passwords."
    if _REPEATED.match(folded):
        return "This repeats a few characters."
    if any(folded in run or folded in run[::-1] for run in _RUNS):
        return "This is a run of neighbouring keys."
    if word in _PRODUCT_WORDS:
        return "This is the name of the product."
    if email and (folded == email.casefold() or (word and word == local_part)):
        return "This is your e-mail address."
    return None
