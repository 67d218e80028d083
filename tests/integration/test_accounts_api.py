import asyncio
import threading
from pathlib import Path

import pytest

from auth.tokens import AccessTokens
from collab_server.services.hashing import MAX_WAITING
from persistence import accounts, sessions
from persistence.tables import accounts as accounts_table
from schemas.errors import Unauthenticated
from tests.integration.world import PASSWORD, SECRET, Person, World, running, slug

LOGIN = {"email": "anna@example.com", "password": PASSWORD}
REGISTER = LOGIN | {"name": "Anna"}


async def me(world: World, access_token: str) -> int:
    headers = {"Authorization": f"Bearer {access_token}"}
    return (await world.ask("GET", "/auth/me", headers=headers)).status_code


class TestRegistering:
    async def test_an_account_is_made_and_its_password_never_comes_back(self, world: World):
        made = await world.ask("POST", "/auth/register", REGISTER)
        assert made.status_code == 201
        assert set(made.json()) == {"id", "email", "name", "created_at"}
        assert made.json()["created_at"] == "2026-11-20T12:00:00Z"

    async def test_an_address_is_compared_in_lower_case(self, world: World):
        made = await world.ask("POST", "/auth/register", REGISTER | {"email": "Anna@EXAMPLE.com"})
        assert made.json()["email"] == "anna@example.com"
        again = await world.ask("POST", "/auth/register", REGISTER)
        assert (again.status_code, slug(again)) == (409, "email-taken")
        assert (await world.ask("POST", "/auth/login", LOGIN | {"email": "ANNA@example.com"})).status_code == 200

    async def test_an_address_has_one_spelling(self, small_world: World):
        form = REGISTER | {"email": "anna@BÜCHER.test"}
        assert (await small_world.ask("POST", "/auth/register", form)).status_code == 201
        other = LOGIN | {"email": "Anna@xn--bcher-kva.test"}
        assert (await small_world.ask("POST", "/auth/login", other)).status_code == 200

    async def test_of_ten_at_once_with_one_address_one_gets_it(self, world: World):
        asked = [world.ask("POST", "/auth/register", REGISTER) for _ in range(10)]
        statuses = sorted(answer.status_code for answer in await asyncio.gather(*asked))
        assert statuses == [201] + [409] * 9

    async def test_a_wrong_field_is_named(self, small_world: World):
        for field, value in (
            ("password", "elevenchars"),
            ("password", "x" * 257),
            ("password", "password1234"),
            ("password", "anna@example.com"),
            ("password", 123456789012),
            ("email", "no address"),
            ("email", "a@b\n.example"),
            ("name", ""),
            ("name", " "),
            ("name", "A\u0000"),
            ("name", "A" * 101),
            ("is_staff", True),
            ("id", "chosen"),
        ):
            answer = await small_world.ask("POST", "/auth/register", REGISTER | {field: value})
            assert (answer.status_code, slug(answer)) == (422, "validation"), (field, value)
            assert [wrong["pointer"] for wrong in answer.json()["errors"]] == ["/" + field], value

    async def test_a_long_password_and_any_alphabet_are_accepted(self, small_world: World):
        password = "".join(f"Ж🦦 {number}" for number in range(80))
        form = REGISTER | {"password": password[:256]}
        assert (await small_world.ask("POST", "/auth/register", form)).status_code == 201
        wrong = LOGIN | {"password": password[:255]}
        assert (await small_world.ask("POST", "/auth/login", wrong)).status_code == 401
        right = LOGIN | {"password": password[:256]}
        assert (await small_world.ask("POST", "/auth/login", right)).status_code == 200


class TestSigningIn:
    async def test_tokens_open_the_door(self, world: World):
        anna = await world.person("Anna")
        assert anna.tokens["token_type"] == "Bearer"
        assert anna.tokens["expires_in"] == 600
        answer = await anna.ask("GET", "/auth/me")
        assert answer.json()["email"] == "anna@example.com"

    async def test_an_unknown_account_and_a_wrong_password_look_the_same(self, world: World):
        await world.person("Anna")
        wrong = await world.ask("POST", "/auth/login", LOGIN | {"password": "three quiet foxes"})
        unknown = await world.ask("POST", "/auth/login", LOGIN | {"email": "nobody@example.com"})
        bodies = [answer.json() | {"instance": ""} for answer in (wrong, unknown)]
        assert slug(wrong) == "wrong-credentials"
        assert wrong.status_code == unknown.status_code == 401
        assert bodies[0] == bodies[1]
        assert wrong.headers["www-authenticate"].startswith("Bearer")

    async def test_an_unknown_account_costs_a_hash_as_well(self, small_world: World):
        verified: list[str] = []
        passwords = small_world.services.accounts.hashing._passwords
        original = type(passwords).verify

        def watch(self: object, hashed: str, password: str) -> bool:
            verified.append(threading.current_thread().name)
            return original(passwords, hashed, password)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(passwords), "verify", watch)
            await small_world.ask("POST", "/auth/login", LOGIN)
        assert len(verified) == 1
        assert verified[0].startswith("password")  # a thread of the pool, not the event loop's

    async def test_a_disabled_account_is_a_wrong_password_and_its_tokens_end(self, world: World):
        anna = await world.person("Anna")
        async with world.services.accounts.database.write() as connection:
            await connection.execute(accounts_table.update().values(disabled_at=world.clock.now()))
        assert slug(await world.ask("POST", "/auth/login", LOGIN)) == "wrong-credentials"
        assert await me(world, anna.tokens["access_token"]) == 401
        refresh = {"refresh_token": anna.tokens["refresh_token"]}
        assert (await world.ask("POST", "/auth/refresh", refresh)).status_code == 401

    async def test_a_hash_with_old_parameters_is_replaced_at_sign_in(self, sqlite_url: str, tmp_path: Path):
        async with running(sqlite_url, tmp_path) as world:
            await world.person("Anna")
        async with running(sqlite_url, tmp_path, password_hash_passes=2) as world:
            assert (await world.ask("POST", "/auth/login", LOGIN)).status_code == 200
            async with world.services.accounts.database.read() as connection:
                account = await accounts.by_email(connection, "anna@example.com")
            assert account is not None
            assert "t=2" in account.password_hash
            assert (await world.ask("POST", "/auth/login", LOGIN)).status_code == 200

    async def test_a_full_queue_is_told_instead_of_growing(self, small_world: World):
        hashing = small_world.services.accounts.hashing
        release = threading.Event()
        waiting = [asyncio.create_task(hashing._run(release.wait)) for _ in range(2 + MAX_WAITING)]
        await asyncio.sleep(0)
        answer = await small_world.ask("POST", "/auth/login", LOGIN)
        assert (answer.status_code, slug(answer)) == (503, "overloaded")
        assert answer.headers["retry-after"] == "1"
        release.set()
        await asyncio.gather(*waiting)
        assert (await small_world.ask("POST", "/auth/login", LOGIN)).status_code == 401


class TestRefreshing:
    async def refresh(self, world: World, token: str) -> dict[str, str] | None:
        answer = await world.ask("POST", "/auth/refresh", {"refresh_token": token})
        if answer.status_code != 200:
            assert (answer.status_code, slug(answer)) == (401, "unauthenticated")
            return None
        tokens: dict[str, str] = answer.json()
        return tokens

    async def test_every_use_gives_a_new_pair_of_the_same_session(self, world: World):
        anna = await world.person("Anna")
        second = await self.refresh(world, anna.tokens["refresh_token"])
        assert second is not None
        assert second["session_id"] == anna.tokens["session_id"]
        assert second["refresh_token"] != anna.tokens["refresh_token"]
        assert await me(world, second["access_token"]) == 200
        third = await self.refresh(world, second["refresh_token"])
        assert third is not None

    async def test_a_lost_answer_can_be_asked_for_again(self, world: World):
        anna = await world.person("Anna")
        first = await self.refresh(world, anna.tokens["refresh_token"])
        world.clock.advance(10)
        again = await self.refresh(world, anna.tokens["refresh_token"])
        assert first is not None
        assert again is not None
        assert again["refresh_token"] == first["refresh_token"]
        assert world.sessions_ended == []

    async def test_after_the_grace_a_rotated_token_ends_the_session(self, world: World):
        anna = await world.person("Anna")
        second = await self.refresh(world, anna.tokens["refresh_token"])
        assert second is not None
        world.clock.advance(11)
        assert await self.refresh(world, anna.tokens["refresh_token"]) is None
        assert world.sessions_ended == [anna.tokens["session_id"]]
        assert await self.refresh(world, second["refresh_token"]) is None
        assert await me(world, second["access_token"]) == 401

    async def test_once_the_successor_was_used_there_is_no_grace(self, world: World):
        anna = await world.person("Anna")
        second = await self.refresh(world, anna.tokens["refresh_token"])
        assert second is not None
        third = await self.refresh(world, second["refresh_token"])
        assert third is not None
        assert await self.refresh(world, anna.tokens["refresh_token"]) is None
        assert world.sessions_ended == [anna.tokens["session_id"]]
        assert await self.refresh(world, third["refresh_token"]) is None

    async def test_a_hundred_parallel_refreshes_give_one_successor(self, world: World):
        anna = await world.person("Anna")
        asked = [self.refresh(world, anna.tokens["refresh_token"]) for _ in range(100)]
        answers = await asyncio.gather(*asked)
        assert len({answer["refresh_token"] for answer in answers if answer is not None}) == 1
        assert None not in answers
        assert answers[0] is not None
        assert await self.refresh(world, answers[0]["refresh_token"]) is not None

    async def test_a_made_up_token_of_a_known_session_ends_nothing(self, world: World):
        anna = await world.person("Anna")
        genuine = anna.tokens["refresh_token"]
        forged = genuine[:40] + ("A" if genuine[40] != "A" else "B") + genuine[41:]
        assert await self.refresh(world, forged) is None
        assert world.sessions_ended == []
        assert await self.refresh(world, genuine) is not None

    async def test_a_session_ends_when_unused(self, world: World):
        anna = await world.person("Anna")
        world.clock.advance(7 * 24 * 3600 - 1)
        second = await self.refresh(world, anna.tokens["refresh_token"])
        assert second is not None
        world.clock.advance(7 * 24 * 3600)
        assert await self.refresh(world, second["refresh_token"]) is None

    async def test_a_session_ends_for_good_after_its_absolute_time(self, world: World):
        tokens: dict[str, str] | None = (await world.person("Anna")).tokens
        for _ in range(5):
            assert tokens is not None
            world.clock.advance(6 * 24 * 3600 - 1)
            tokens = await self.refresh(world, tokens["refresh_token"])
        assert tokens is not None
        world.clock.advance(5)
        assert await self.refresh(world, tokens["refresh_token"]) is None
        assert await me(world, tokens["access_token"]) == 401

    async def test_rubbish_is_unauthenticated(self, world: World):
        for token in ("", "rft_", "rft_" + "A" * 86, "x" * 200, "🦦", "\x00", "tkt_" + "A" * 43):
            assert await self.refresh(world, token) is None, token

    async def test_only_hashes_are_stored(self, world: World):
        anna = await world.person("Anna")
        second = await self.refresh(world, anna.tokens["refresh_token"])
        assert second is not None
        async with world.services.accounts.database.read() as connection:
            session = await sessions.by_id(connection, anna.tokens["session_id"])
        assert session is not None
        assert session.previous_hash is not None
        assert len(session.refresh_hash) == len(session.previous_hash) == 32


class TestSigningOut:
    async def test_it_ends_this_session_at_once_and_no_other(self, world: World):
        anna = await world.person("Anna")
        other = (await world.ask("POST", "/auth/login", LOGIN)).json()
        assert (await anna.ask("POST", "/auth/logout")).status_code == 204
        assert world.sessions_ended == [anna.tokens["session_id"]]
        answer = await anna.ask("GET", "/auth/me")
        assert (answer.status_code, slug(answer)) == (401, "unauthenticated")
        refresh = {"refresh_token": anna.tokens["refresh_token"]}
        assert (await world.ask("POST", "/auth/refresh", refresh)).status_code == 401
        assert await me(world, other["access_token"]) == 200

    async def test_every_sign_in_is_a_session_of_its_own(self, world: World):
        anna = await world.person("Anna")
        other = (await world.ask("POST", "/auth/login", LOGIN)).json()
        assert other["session_id"] != anna.tokens["session_id"]


class TestAccessTokens:
    async def test_an_expired_token_says_that_it_expired(self, world: World):
        anna = await world.person("Anna")
        world.clock.advance(600 + 30)
        answer = await anna.ask("GET", "/auth/me")
        assert (answer.status_code, slug(answer)) == (401, "token-expired")
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]

    async def test_no_other_kind_of_secret_opens_the_door(self, world: World):
        anna = await world.person("Anna")
        document_id = await world.document(anna)
        ticket = (await anna.ask("POST", f"/documents/{document_id}/ticket")).json()["ticket"]
        for token in (anna.tokens["refresh_token"], ticket, anna.tokens["session_id"], anna.id):
            assert await me(world, token) == 401
        for token in (anna.tokens["access_token"], ticket):
            asked = await world.ask("POST", "/auth/refresh", {"refresh_token": token[:200]})
            assert asked.status_code in (401, 422)
        for token in (anna.tokens["access_token"], anna.tokens["refresh_token"]):
            with pytest.raises(Unauthenticated):
                await world.services.access.by_ticket(token, document_id)

    async def test_any_other_header_is_unauthenticated(self, small_world: World):
        for header in ("", "Bearer", "Bearer ", "Basic YTpi", "bearer x y", "Bearer a.b.c", "Bearer null"):
            answer = await small_world.ask("GET", "/auth/me", headers={"Authorization": header})
            assert (answer.status_code, slug(answer)) == (401, "unauthenticated"), header

    async def test_a_well_signed_token_of_a_session_that_never_was_is_refused(self, world: World):
        anna = await world.person("Anna")
        tokens = AccessTokens(SECRET.encode(), world.settings.public_url, 600)
        never = tokens.issue(anna.id, "00000000-0000-4000-8000-000000000000", world.clock.now())
        assert await me(world, never) == 401

    async def test_a_token_does_not_join_an_account_with_anothers_session(self, world: World):
        anna, boris = await world.person("Anna"), await world.person("Boris")
        tokens = AccessTokens(SECRET.encode(), world.settings.public_url, 600)
        mixed = tokens.issue(anna.id, boris.tokens["session_id"], world.clock.now())
        assert await me(world, mixed) == 401

    async def test_a_token_in_the_url_counts_for_nothing(self, small_world: World):
        anna: Person = await small_world.person("Anna")
        token = anna.tokens["access_token"]
        assert (await small_world.ask("GET", f"/auth/me?token={token}&access_token={token}")).status_code == 401
