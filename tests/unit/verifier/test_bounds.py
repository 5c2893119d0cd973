"""What a stranger can use up, and what is left to everybody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from bootlease.evidence import document, parse_evidence
from bootlease.evidence.request import MAX_LEASES
from bootlease.ports import Role
from bootlease.reference import serialise_reference
from bootlease.store import SQLStore
from bootlease.testing.attesting_client import AttestingClient
from bootlease.testing.boot import simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.golden import golden_reference
from bootlease.testing.keys import fresh_keys
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.policies import make_policy, permit
from bootlease.testing.scene import POLICY, default_lease
from bootlease.testing.set_clock import SetClock
from bootlease.testing.simulated_node import SimulatedNode
from bootlease.verifier import leasing
from bootlease.verifier.app import build_app
from bootlease.verifier.bodies import Body, Budget, tiers_of_strangers
from bootlease.verifier.glance import nonce_in
from bootlease.verifier.limits import DEFAULT_LIMITS, Rate
from bootlease.verifier.operators.access import ADMIN_PREFIX, new_secret, secret_digest
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.rates import RateCounter, client_at
from bootlease.verifier.routes.gate import Presenter, client_of
from bootlease.verifier.service import Service, build_service

EVIDENCE = {"content-type": "application/vnd.bootlease.evidence+cbor"}
ISSUER = "https://v.example"
AUTHOR = "operator:test"
KIBIBYTE = 1024


class World:
    """A verifier whose clients come from where a test says."""

    def __init__(self, service: Service, clock: SetClock, ca: LocalCA) -> None:
        self.service = service
        self.clock = clock
        self.ca = ca
        self.app = build_app(service)
        self.boot = simulate_boot(grub_description())

    def at(self, address: str) -> TestClient:
        """A client at an address."""
        return TestClient(self.app, client=(address, 50_000))

    def node(self, address: str) -> AttestingClient:
        """An enrolled node at an address."""
        http: Any = self.at(address)
        client = AttestingClient(http, SimulatedNode(self.ca, boot=self.boot), (default_lease(),))
        client.enrol()
        return client


@pytest.fixture
def world(tmp_path: Path, local_ca: LocalCA) -> Iterator[World]:
    """A verifier with policy, root and reference."""
    keys = fresh_keys(ISSUER)
    store = SQLStore.open(tmp_path / "verifier.db", keys.ledger, keys.ledger.key.name)
    clock = SetClock(int(local_ca.root.not_valid_before_utc.timestamp()) + 2 * 86_400)
    learned = golden_reference(simulate_boot(grub_description()), match_events=(4,))

    async def build() -> Service:
        service = await build_service(store, keys, ISSUER, clock=clock)
        await service.registry.add_roots(local_ca.roots_pem, author=AUTHOR)
        await service.registry.register_reference(serialise_reference(learned), author=AUTHOR)
        await service.registry.activate_policy(POLICY.encode(), author=AUTHOR)
        return service

    yield World(asyncio.run(build()), clock, local_ca)
    store.close()


def leases_of(client: AttestingClient) -> str:
    """Path of a node's leases."""
    return f"/v1/nodes/{client.node.hex()}/leases"


def test_failures_of_others_cost_nothing_when_the_table_is_full() -> None:
    """A key that never failed is heard, and one that did is not forgotten."""
    counter = RateCounter(Rate(1, 60), 3, shared=False)
    for number in range(50):
        counter.count((str(number),), 0)
    assert counter.wait(("honest",), 0) == 0
    assert counter.wait(("0",), 0) > 0
    assert len(counter._counts) == 3


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_a_client_is_an_address_or_a_customers_network(one: str, other: str, *, same: bool) -> None:
    """Nobody becomes many by numbering an IPv6 network through."""
    assert (client_at(one) == client_at(other)) is same


def test_behind_a_unix_socket_a_node_stands_for_its_client() -> None:
    """There are no addresses, and the failures of one node are not another's."""

    class FromSocket:
        client = None

    request: Any = FromSocket()
    assert client_of(request, "aa") != client_of(request, "bb")


def test_a_budget_counts_bytes_and_bodies() -> None:
    """What one client takes is bounded, what all take is bounded, and all of it comes back."""
    budget = Budget(10, 2)
    budget.enter("a")
    budget.enter("a")
    with pytest.raises(ProblemError):
        budget.enter("a")
    budget.enter("b")
    budget.take(7)
    with pytest.raises(ProblemError):
        budget.take(4)
    budget.leave("a", 7)
    budget.enter("a")
    budget.take(10)


def test_huge_bodies_do_not_use_up_what_ordinary_ones_need() -> None:
    """A full budget of the one leaves that of the other alone."""
    tiers = tiers_of_strangers(DEFAULT_LIMITS)
    bodies = [Body(tiers, str(number)) for number in range(7)]
    for body in bodies[:6]:
        body._pay(8 * KIBIBYTE * KIBIBYTE)
    with pytest.raises(ProblemError):
        bodies[6]._pay(8 * KIBIBYTE * KIBIBYTE)
    ordinary = Body(tiers, "honest")
    ordinary._pay(200 * KIBIBYTE)
    for body in (*bodies, ordinary):
        body.release()
        body.release()
    again = [Body(tiers, str(number)) for number in range(6)]
    for body in again:
        body._pay(8 * KIBIBYTE * KIBIBYTE)


@given(st.binary(max_size=256))
def test_noise_names_no_challenge(noise: bytes) -> None:
    """A glance never fails, whatever the bytes."""
    assert nonce_in(noise) is None


def test_a_glance_sees_the_nonce_that_the_parser_reads(world: World) -> None:
    """With a log before it and without."""
    client = world.node("192.0.2.1")
    for full in (True, False):
        body = client.attest(full=full).encode()
        assert nonce_in(body) == parse_evidence(body).binding.nonce
        assert nonce_in(body[: body.rindex(b"nonce") + 20]) is None


def fail(world: World, client: AttestingClient, address: str, times: int) -> int:
    """Send garbage in a node's name; return the last status."""
    http = world.at(address)
    statuses = [
        http.post(leases_of(client), content=b"x", headers=EVIDENCE).status_code
        for _ in range(times)
    ]
    return statuses[-1]


def test_a_renewal_is_heard_whatever_came_from_its_address(world: World) -> None:
    """Nobody else knows the challenge it answers; a lost answer is given again too."""
    client = world.node("192.0.2.1")
    client.renew()
    assert fail(world, client, "192.0.2.1", 31) == 429
    evidence = client.attest()
    assert client.present(evidence).status_code == 200
    assert client.present(evidence).status_code == 200


def test_a_challenge_that_anybody_may_ask_for_opens_nothing(world: World) -> None:
    """Who had too many failures is not heard by naming one, nor by naming another node's."""
    client, other = world.node("192.0.2.1"), world.node("192.0.2.2")
    other.renew()
    asked = client.attest(client.ask())
    assert fail(world, client, "192.0.2.1", 31) == 429
    assert client.present(asked).status_code == 429
    assert client.present(client.attest(other.challenge)).status_code == 429
    client.http = world.at("192.0.2.3")
    assert client.present(asked).status_code == 200


def test_a_node_that_fails_with_its_own_challenges_is_slowed_at_last(world: World) -> None:
    """Evidence that it alone can have made is counted too."""
    client = world.node("192.0.2.1")
    client.renew()
    good = client.attest()
    bad = replace(good, signature=good.signature[:-1] + bytes([good.signature[-1] ^ 1])).encode()
    fail(world, client, "192.0.2.1", 31)
    statuses = [client.present(bad).status_code for _ in range(301)]
    assert statuses[0] == 403
    assert statuses[-1] == 429


def test_requests_for_unknown_nodes_are_not_failures(world: World) -> None:
    """They are told so, then slowed; a node at the same address is heard."""
    http = world.at("192.0.2.1")
    statuses = [
        http.post(f"/v1/nodes/{number:064x}/leases", content=b"x", headers=EVIDENCE).status_code
        for number in range(601)
    ]
    assert (statuses[0], statuses[-1]) == (404, 429)
    assert world.node("192.0.2.1").renew()


def test_refused_decisions_are_slowed_for_their_node_alone(world: World) -> None:
    """Each costs a record; a node that complies again is heard once the window turns."""
    client, other = world.node("192.0.2.1"), world.node("192.0.2.2")
    wish = (replace(default_lease(), audience="https://elsewhere.example"),)
    statuses = []
    for number in range(31):
        client.http = world.at(f"192.0.2.{10 + number // 5}")
        statuses.append(client.present(client.attest(client.ask(), leases=wish)).status_code)
    assert statuses == [403] * 30 + [429]
    other.renew()
    world.clock.pass_time(60)
    client.challenge = None
    client.renew()


def test_a_node_that_was_granted_enough_waits(world: World) -> None:
    """Thirty-two in the life of a lease, at whatever address; the lineage then goes on."""
    client, other = world.node("192.0.2.1"), world.node("192.0.2.2")
    world.clock.pass_time((60 - world.clock.now()) % 120)
    for _ in range(31):
        client.renew()
    last = client.attest()
    granted = client.present(last)
    client.keep(granted)
    one_more = client.attest()
    size = len(asyncio.run(world.service.store.decisions_of(client.node, at_most=100)))
    for address in ("192.0.2.1", "192.0.2.3"):
        client.http = world.at(address)
        refused = client.present(one_more)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    assert client.present(last).content == granted.content
    assert size == len(asyncio.run(world.service.store.decisions_of(client.node, at_most=100)))
    other.renew()
    world.clock.pass_time(60)
    assert client.present(one_more).status_code == 200


def test_slow_clients_do_without_huge_bodies(world: World) -> None:
    """After two that did not arrive, none is begun; ordinary evidence is."""
    client = world.node("192.0.2.1")
    presenter = Presenter(world.service, "192.0.2.1", client.node, world.clock.now())

    async def story() -> None:
        await presenter.admit(5_000_000)
        for _ in range(2):
            presenter.count_unread(ProblemError(ProblemKind.TIMEOUT, "Slow."))
        with pytest.raises(ProblemError) as refused:
            await presenter.admit(5_000_000)
        assert refused.value.kind is ProblemKind.BUSY_CLIENT
        await presenter.admit(100_000)
        await replace(presenter, client="192.0.2.2").admit(5_000_000)

    asyncio.run(story())
    assert world.service.counts["unverified"] == 2


def test_a_challenge_that_was_asked_for_is_soon_forgotten(world: World) -> None:
    """Its lease lives as long as ever; one that rode in an answer waits as long as the lease."""
    client = world.node("192.0.2.1")
    challenge = client.ask()
    assert challenge.expires_at - challenge.issued_at == 60
    world.clock.pass_time(59)
    answer = client.renew()
    assert (answer.life, answer.expires_in) == (120, 61)
    assert answer.challenge.expires_at - answer.challenge.issued_at == 120


def test_strangers_at_ten_addresses_leave_room_for_challenges(world: World) -> None:
    """Each can hold six that are live, of sixty-four."""
    client = world.node("192.0.2.1")
    path = f"/v1/nodes/{client.node.hex()}/challenges"
    for number in range(10):
        http = world.at(f"198.51.100.{number}")
        taken = [http.post(path).status_code for _ in range(8)]
        assert taken == [201] * 6 + [429] * 2
    client.ask()
    world.clock.pass_time(60)
    client.ask()


def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note the size of every document that is parsed."""
    sizes: list[int] = []

    def note(data: bytes) -> Any:
        sizes.append(len(data))
        return parse_evidence(data)

    monkeypatch.setattr(leasing, "parse_evidence", note)
    return sizes


def test_nothing_is_parsed_for_an_unknown_node(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """404 costs a look at the path."""
    sizes = parsed(monkeypatch)
    answer = world.at("192.0.2.1").post(
        f"/v1/nodes/{7:064x}/leases", content=b"\x80" * 9000, headers=EVIDENCE
    )
    assert answer.status_code == 404
    assert not sizes


def test_long_documents_are_parsed_only_for_a_live_challenge(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten thousand items are not worth a parse unless they answer something."""
    client = world.node("192.0.2.1")
    sizes = parsed(monkeypatch)
    bulk = b"\x9a\x00\x00\xea\x60" + b"\x80" * 60_000
    evidence = client.attest(client.ask(), full=False)
    made_up = client.attest(replace(client.ask(), nonce=bytes(32)), full=False)
    assert client.present(bulk).status_code == 400
    assert client.present(bulk + made_up.encode()).status_code == 403
    assert not sizes
    assert client.present(bulk + evidence.encode()).status_code == 400
    assert len(sizes) == 1
    assert client.present(bulk + bytes(10_000)).status_code == 413


def test_sixty_four_leases_fit(world: World) -> None:
    """The most that one document can ask for, each with a certified key, is parsed aside."""
    client = world.node("192.0.2.1")
    wishes = [
        replace(default_lease(), confirmation=client.device.bound_key().certification)
        for _ in range(64)
    ]
    body = client.attest(leases=wishes, full=False).encode()
    assert 16 * KIBIBYTE < len(body) < DEFAULT_LIMITS.evidence_core
    assert client.present(body).status_code in {403, 409}


def test_the_operator_is_heard_whatever_came_from_its_address(world: World) -> None:
    """Wrong credentials are slowed, a right one never."""
    credential = new_secret(ADMIN_PREFIX)

    async def register() -> None:
        await world.service.store.add_credential(
            secret_digest(credential),
            label="test",
            now=world.clock.now(),
            author=AUTHOR,
            roles=tuple(Role),
        )
        await world.service.registry.reload()

    asyncio.run(register())
    http = world.at("192.0.2.1")
    wrong = {"authorization": "Bearer bladm_wrong"}
    statuses = [http.get("/v1/admin/nodes", headers=wrong).status_code for _ in range(61)]
    assert (statuses[0], statuses[-1]) == (401, 429)
    right = {"authorization": f"Bearer {credential}"}
    assert http.get("/v1/admin/nodes", headers=right).status_code == 200


def test_as_many_leases_fit_as_the_policy_grants(world: World) -> None:
    """Each on a key in the TPM; a policy that grants few takes no document of so many."""
    client = world.node("192.0.2.1")
    wishes = [
        replace(
            default_lease(), confirmation=client.device.bound_key().certification, optional=True
        )
        for _ in range(MAX_LEASES)
    ]
    assert client.present(client.attest(leases=wishes, full=False)).status_code == 413
    many = POLICY.replace("max_leases = 16", f"max_leases = {MAX_LEASES}").encode()
    asyncio.run(world.service.registry.activate_policy(many, author=AUTHOR))
    client.leases = wishes
    answer = client.renew()
    assert len(answer.leases) == MAX_LEASES
    assert DEFAULT_LIMITS.evidence_core_per_lease * MAX_LEASES < document.MAX_EVIDENCE


def test_leases_that_were_left_out_are_told_and_the_others_renewed(world: World) -> None:
    """One wish that policy denies costs the others nothing, in this renewal and in the next."""
    client = world.node("192.0.2.1")
    denied = replace(default_lease(("deploy:prod",)), optional=True)
    client.leases = (default_lease(),)
    first = client.renew()
    client.leases = (denied, default_lease(), denied)
    second = client.renew()
    assert [each.index for each in second.denied] == [0, 2]
    assert [each.findings[0].id for each in second.denied] == ["policy.scope.denied"] * 2
    assert (first.sequence, second.sequence, client.renew().sequence) == (0, 1, 2)
    client.leases = (denied,)
    assert client.present(client.attest()).status_code == 403


def test_wildcards_without_number_cost_no_seconds(world: World) -> None:
    """Names that no policy grants, as many as fit into evidence, beside a thousand policies."""
    rules = "\n".join(
        f'permit (principal, action, resource in Scope::"r:{at}/*") when {{ principal.endorsed }};'
        for at in range(1000)
    )
    policy = make_policy(f"{rules}\n{permit()}", lease__max_leases=str(MAX_LEASES))
    asyncio.run(world.service.registry.activate_policy(policy.encode(), author=AUTHOR))
    client = world.node("192.0.2.1")
    client.leases = [
        default_lease(),
        *(
            replace(
                default_lease(("r:*", *(f"r{at}:{each}:*" for each in range(31)))), optional=True
            )
            for at in range(180)
        ),
    ]
    begun = time.process_time()
    answer = client.renew()
    assert time.process_time() - begun < 5
    assert (len(answer.leases), len(answer.denied)) == (1, 180)
