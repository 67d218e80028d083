"""What the sockets are told about who stands behind a ticket or a token."""

import asyncio

import pytest

from persistence.tables import tickets as tickets_table
from schemas.errors import DocumentNotFound, RoleRevoked, TokenExpired, Unauthenticated
from schemas.roles import Role
from tests.integration.world import Person, World, acl_version


async def ticket_of(person: Person, document_id: str) -> str:
    answer = await person.ask("POST", f"/documents/{document_id}/ticket")
    assert answer.status_code == 201, answer.text
    return str(answer.json()["ticket"])


class TestTickets:
    async def test_a_ticket_lets_one_socket_in(self, world: World):
        anna = await world.person("Anna")
        document_id = await world.document(anna)
        answer = (await anna.ask("POST", f"/documents/{document_id}/ticket")).json()
        assert answer["ws_url"] == f"ws://127.0.0.1:8000/ws/{document_id}"
        assert answer["expires_in"] == 60
        access = await world.services.access.by_ticket(answer["ticket"], document_id)
        assert (access.account_id, access.session_id) == (anna.id, anna.tokens["session_id"])
        assert (access.name, access.role, access.principal) == ("Anna", Role.OWNER, f"account:{anna.id}")
        assert access.acl_version == await acl_version(world, document_id)
        assert access.expires_at is None
        with pytest.raises(Unauthenticated):
            await world.services.access.by_ticket(answer["ticket"], document_id)

    async def test_of_twenty_sockets_with_one_ticket_one_gets_in(self, world: World):
        anna = await world.person("Anna")
        document_id = await world.document(anna)
        ticket = await ticket_of(anna, document_id)
        tries = [world.services.access.by_ticket(ticket, document_id) for _ in range(20)]
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(outcome, Unauthenticated) for outcome in outcomes) == 19

    async def test_a_ticket_ends_after_its_time(self, world: World):
        anna = await world.person("Anna")
        document_id = await world.document(anna)
        ticket = await ticket_of(anna, document_id)
        world.clock.advance(60)
        with pytest.raises(Unauthenticated):
            await world.services.access.by_ticket(ticket, document_id)

    async def test_expired_tickets_are_forgotten_and_others_kept(self, world: World):
        anna = await world.person("Anna")
        document_id = await world.document(anna)
        await ticket_of(anna, document_id)
        world.clock.advance(40)
        young = await ticket_of(anna, document_id)
        world.clock.advance(30)
        await ticket_of(anna, document_id)
        async with world.services.tickets.database.read() as connection:
            assert len((await connection.execute(tickets_table.select())).all()) == 2
        await world.services.access.by_ticket(young, document_id)

    async def test_a_ticket_for_another_document_is_used_up_and_refused(self, world: World):
        anna = await world.person("Anna")
        one, other = await world.document(anna), await world.document(anna)
        ticket = await ticket_of(anna, one)
        for document_id in (other, one):
            with pytest.raises(Unauthenticated):
                await world.services.access.by_ticket(ticket, document_id)

    async def test_a_ticket_ends_with_its_session(self, world: World):
        anna = await world.person("Anna")
        document_id = await world.document(anna)
        ticket = await ticket_of(anna, document_id)
        await anna.ask("POST", "/auth/logout")
        with pytest.raises(Unauthenticated):
            await world.services.access.by_ticket(ticket, document_id)

    async def test_a_ticket_of_a_removed_member_finds_no_document(self, world: World):
        anna, boris = await world.person("Anna"), await world.person("Boris")
        document_id = await world.document(anna, editor=boris)
        tickets = [await ticket_of(boris, document_id) for _ in range(2)]
        await anna.ask("DELETE", f"/documents/{document_id}/members/{boris.id}")
        with pytest.raises(DocumentNotFound):
            await world.services.access.by_ticket(tickets[0], document_id)
        await anna.ask("DELETE", f"/documents/{document_id}")
        with pytest.raises(DocumentNotFound):
            await world.services.access.by_ticket(tickets[1], document_id)

    async def test_rubbish_is_unauthenticated(self, world: World):
        for ticket in ("", "tkt_", "tkt_" + "A" * 43, "x" * 10_000, "\x00"):
            with pytest.raises(Unauthenticated):
                await world.services.access.by_ticket(ticket, "d")


class TestAccess:
    async def test_a_token_lets_a_member_in_until_it_expires(self, world: World):
        anna, boris = await world.person("Anna"), await world.person("Boris")
        document_id = await world.document(anna, viewer=boris)
        by_token = world.services.access.by_token
        access = await by_token(boris.tokens["access_token"], document_id)
        assert (access.account_id, access.role) == (boris.id, Role.VIEWER)
        assert access.expires_at is not None
        assert (access.expires_at - world.clock.now()).total_seconds() == 600
        world.clock.advance(630)
        with pytest.raises(TokenExpired):
            await by_token(boris.tokens["access_token"], document_id)

    async def test_a_token_of_a_stranger_finds_no_document(self, world: World):
        anna, stranger = await world.person("Anna"), await world.person("Stranger")
        document_id = await world.document(anna)
        for name in (document_id, "no-such-document", "\x00", ""):
            with pytest.raises(DocumentNotFound):
                await world.services.access.by_token(stranger.tokens["access_token"], name)

    async def test_a_recheck_tells_what_changed(self, world: World):
        anna, boris = await world.person("Anna"), await world.person("Boris")
        document_id = await world.document(anna, editor=boris)
        who = (boris.id, boris.tokens["session_id"], document_id)
        recheck = world.services.access.recheck
        first = await recheck(*who)
        await anna.ask("PUT", f"/documents/{document_id}/members/{boris.id}", {"role": "viewer"})
        second = await recheck(*who)
        assert (first.role, second.role) == (Role.EDITOR, Role.VIEWER)
        assert second.acl_version == first.acl_version + 1
        await anna.ask("DELETE", f"/documents/{document_id}/members/{boris.id}")
        with pytest.raises(RoleRevoked):
            await recheck(*who)
        await anna.ask("DELETE", f"/documents/{document_id}")
        with pytest.raises(DocumentNotFound):
            await recheck(*who)
        await boris.ask("POST", "/auth/logout")
        with pytest.raises(Unauthenticated):
            await recheck(*who)
