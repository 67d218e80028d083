import base64
import hmac
import json
import random
import string
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from auth import secrets
from auth.secrets import RefreshTokens, derive_key, digest, is_ticket, new_ticket, same
from auth.tokens import AUDIENCE, LEEWAY_SECONDS, AccessTokens
from schemas.errors import TokenExpired, Unauthenticated

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SECRET = b"0123456789abcdef0123456789ABCDEF"
TOKENS = AccessTokens(SECRET, "https://collab.example", 600)
ACCOUNT, SESSION = str(uuid.uuid4()), str(uuid.uuid4())
GOOD = {
    "iss": "https://collab.example",
    "aud": AUDIENCE,
    "sub": ACCOUNT,
    "sid": SESSION,
    "iat": int(NOW.timestamp()),
    "exp": int(NOW.timestamp()) + 600,
    "jti": "1",
}


def signed(claims: dict[str, Any], *, secret: bytes = SECRET, header: dict[str, Any] | None = None) -> str:
    """Made by hand: a library would refuse to make some of these."""
    fields = {"alg": "HS256", "typ": "at+jwt"} | (header or {})
    message = f"{_segment({name: value for name, value in fields.items() if value})}.{_segment(claims)}"
    digest = {"HS384": "sha384", "HS512": "sha512"}.get(fields["alg"], "sha256")
    return f"{message}.{_text(hmac.digest(secret, message.encode(), digest))}"


def is_refused(token: str) -> bool:
    try:
        TOKENS.verify(token, NOW)
    except Unauthenticated:
        return True
    return False


def test_a_token_says_who_it_was_issued_for():
    claims = TOKENS.verify(TOKENS.issue(ACCOUNT, SESSION, NOW), NOW)
    assert (claims.account_id, claims.session_id) == (ACCOUNT, SESSION)
    assert (claims.issued_at, claims.expires_at) == (NOW, NOW + timedelta(seconds=600))


def test_no_two_tokens_have_the_same_id():
    ids = {TOKENS.verify(TOKENS.issue(ACCOUNT, SESSION, NOW), NOW).token_id for _ in range(50)}
    assert len(ids) == 50


def test_a_token_ends_after_its_lifetime_and_a_small_leeway():
    token = TOKENS.issue(ACCOUNT, SESSION, NOW)
    assert LEEWAY_SECONDS <= 30
    TOKENS.verify(token, NOW + timedelta(seconds=600 + LEEWAY_SECONDS - 1))
    with pytest.raises(TokenExpired):
        TOKENS.verify(token, NOW + timedelta(seconds=600 + LEEWAY_SECONDS))


def test_a_token_from_the_future_is_refused():
    token = TOKENS.issue(ACCOUNT, SESSION, NOW)
    TOKENS.verify(token, NOW - timedelta(seconds=LEEWAY_SECONDS))
    with pytest.raises(Unauthenticated):
        TOKENS.verify(token, NOW - timedelta(seconds=LEEWAY_SECONDS + 1))


def test_the_handmade_token_of_these_tests_is_good():
    assert not is_refused(signed(GOOD))


@pytest.mark.parametrize("claim", GOOD)
def test_a_token_without_one_of_its_claims_is_refused(claim: str):
    assert is_refused(signed({name: value for name, value in GOOD.items() if name != claim}))


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://evil.example"},
        {"iss": ["https://collab.example"]},
        {"aud": "other"},
        {"aud": [AUDIENCE]},
        {"sub": 7},
        {"sub": ""},
        {"sid": None},
        {"sid": {"a": 1}},
        {"jti": 1},
        {"iat": "yesterday"},
        {"iat": True},
        {"exp": 1e400},
        {"exp": 10**30},
        {"exp": "9999999999"},
        {"exp": -1},
    ],
)
def test_a_token_with_a_wrong_claim_is_refused(change: dict[str, Any]):
    assert is_refused(signed(GOOD | change))


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "JWT"},
        {"typ": "refresh+jwt"},
        {"typ": "share+jwt"},
        {"typ": None},
        {"kid": "1"},
        {"crit": ["exp"]},
        {"jwk": {"kty": "oct", "k": "AAAA"}},
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/cert"},
        {"cty": "JWT"},
        {"b64": False, "crit": ["b64"]},
    ],
)
def test_a_token_with_another_header_is_refused_even_when_rightly_signed(header: dict[str, Any]):
    assert is_refused(signed(GOOD, header=header))


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_another_algorithm_is_refused(algorithm: str):
    assert is_refused(signed(GOOD, header={"alg": algorithm}))


def test_an_unsigned_token_is_refused():
    assert is_refused(jwt.encode(GOOD, None, algorithm="none", headers={"typ": "at+jwt"}))
    head = _segment({"alg": "none", "typ": "at+jwt"})
    assert is_refused(f"{head}.{_segment(GOOD)}.")
    assert is_refused(f"{head}.{_segment(GOOD)}.{'A' * 43}")


def test_a_token_of_another_server_is_refused():
    assert is_refused(signed(GOOD, secret=b"another secret that is long enough"))


def test_a_signature_has_one_spelling():
    token = TOKENS.issue(ACCOUNT, SESSION, NOW)
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    spellings = [token[:-1] + letter for letter in alphabet]
    assert [spelling for spelling in spellings if not is_refused(spelling)] == [token]


@pytest.mark.parametrize("extra", ["\n", " ", "=", "!", "\x00", "."])
def test_nothing_may_be_added_to_a_token(extra: str):
    token = TOKENS.issue(ACCOUNT, SESSION, NOW)
    assert is_refused(token + extra)
    assert is_refused(extra + token)
    assert is_refused(token[:-5] + extra + token[-5:])


def test_five_thousand_mutated_tokens_are_refused_without_another_error():
    rng = random.Random(7)
    token = TOKENS.issue(ACCOUNT, SESSION, NOW)
    letters = string.ascii_letters + string.digits + "-_.=+/ \n\x00é"
    for _ in range(5_000):
        mutated = list(token)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(mutated))
            match rng.randrange(4):
                case 0:
                    mutated[place] = rng.choice(letters)
                case 1:
                    del mutated[place]
                case 2:
                    mutated.insert(place, rng.choice(letters))
                case _:
                    del mutated[place : place + rng.randint(1, 60)]
            mutated = mutated or ["."]
        text = "".join(mutated)
        assert text == token or is_refused(text), text


@pytest.mark.parametrize(
    "text", ["", ".", "..", "a.b.c", "a" * 100_000, "🦦.🦦.🦦", "Bearer x", "{}", "[" * 2000 + ".e.A"]
)
def test_rubbish_is_refused(text: str):
    assert is_refused(text)


def test_a_refresh_token_or_a_ticket_is_no_access_token_and_the_other_way_round():
    refresh = RefreshTokens(derive_key(SECRET, "refresh")).first(SESSION)
    access, ticket = TOKENS.issue(ACCOUNT, SESSION, NOW), new_ticket()
    assert is_refused(refresh)
    assert is_refused(ticket)
    assert not is_ticket(refresh)
    assert not is_ticket(access)
    assert RefreshTokens(SECRET).session_of(ticket) is None
    assert RefreshTokens(SECRET).session_of(access) is None


def test_a_short_secret_is_refused():
    with pytest.raises(ValueError, match="256 bits"):
        AccessTokens(b"too short", "https://collab.example", 600)


def test_the_secret_is_not_in_the_repr():
    assert "0123456789" not in repr(TOKENS)


class TestRefreshTokens:
    tokens = RefreshTokens(b"k" * 32)

    def test_a_token_names_its_session(self):
        assert self.tokens.session_of(self.tokens.first(SESSION)) == SESSION

    def test_the_successor_is_always_the_same(self):
        first = self.tokens.first(SESSION)
        assert self.tokens.successor(first) == self.tokens.successor(first) != first
        assert self.tokens.session_of(self.tokens.successor(first)) == SESSION

    def test_nobody_derives_a_successor_without_the_key(self):
        first = self.tokens.first(SESSION)
        assert RefreshTokens(b"x" * 32).successor(first) != self.tokens.successor(first)

    def test_first_tokens_of_one_session_differ(self):
        assert self.tokens.first(SESSION) != self.tokens.first(SESSION)

    def test_only_what_we_made_counts_as_issued(self):
        token = self.tokens.first(SESSION)
        assert self.tokens.issued(token)
        assert self.tokens.issued(self.tokens.successor(token))
        assert not RefreshTokens(b"x" * 32).issued(token)
        assert not self.tokens.issued("rft_" + _text(uuid.UUID(SESSION).bytes + bytes(48)))

    @pytest.mark.parametrize("text", ["", "rft_", "rft_" + "A" * 85, "rft_" + "A" * 85 + "=", "x" * 90])
    def test_what_does_not_look_like_one_has_no_session(self, text: str):
        assert self.tokens.session_of(text) is None


def test_tickets_are_long_and_different():
    tickets = {new_ticket() for _ in range(100)}
    assert len(tickets) == 100
    assert all(is_ticket(ticket) and len(ticket) == 47 for ticket in tickets)


def test_none_equals_no_digest():
    assert same(digest("a"), digest("a"))
    assert not same(digest("a"), digest("b"))
    assert not same(digest("a"), None)


def test_each_purpose_has_its_own_key():
    assert derive_key(SECRET, "a") != derive_key(SECRET, "b")
    assert len(derive_key(SECRET, "a")) == 32


def test_the_prefixes_tell_the_kinds_of_secrets_apart():
    assert len({secrets.TICKET_PREFIX, secrets.REFRESH_PREFIX}) == 2


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _segment(value: Any) -> str:
    return _text(json.dumps(value).encode())
