"""What takes long is done on another thread: the loop that serves renewals does not wait for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from bootlease.appraisal import appraise
from bootlease.evidence import LeaseAnswer, LeaseRequest
from bootlease.policy.authorization import Authorization
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.policies import AUDIENCE, make_policy, permit
from bootlease.testing.scene import default_lease, plain_key
from bootlease.token import (
    KeySet,
    PrivateKeySigner,
    VerificationKey,
    sign_cwt,
    verify_token,
)
from bootlease.verifier import answers, judging, leasing
from bootlease.verifier.tokenkeys import Rotated

from .worlds import ISSUER, make_world

LOOKING: Final = "\n".join(
    f'permit (principal, action, resource) when {{ resource == Scope::"r:{at}" }};'
    for at in range(64)
)
COSTLY: Final = make_policy(f"{LOOKING}\n{permit()}", lease__max_leases="64")
CHEAP: Final = make_policy(lease__max_leases="64")

Where = list[tuple[str, bool]]


def wildcards(count: int) -> tuple[str, ...]:
    """Return so many wildcards over what policies look at."""
    return ("r:*", *(f"r:{each}:*" for each in range(count - 1)))


def numbered(count: int) -> list[LeaseRequest]:
    """Return so many wishes that policy grants, each with a key of its own."""
    return [replace(default_lease(), confirmation=plain_key(at + 1)) for at in range(count)]


@pytest.fixture
def where(monkeypatch: pytest.MonkeyPatch) -> Where:
    """What was done, and whether on another thread."""
    done: Where = []

    def noted(module: ModuleType, name: str) -> None:
        work: Callable[..., Any] = getattr(module, name)

        def here(*args: Any, **others: Any) -> Any:
            done.append((name, threading.current_thread() is not threading.main_thread()))
            return work(*args, **others)

        monkeypatch.setattr(module, name, here)

    noted(leasing, "verify_evidence")
    noted(judging, "boot_log_of")
    noted(judging, "appraise")
    noted(leasing, "grant")
    return done


def decided(folder: Path, ca: LocalCA, policy: str, wishes: Sequence[LeaseRequest]) -> LeaseAnswer:
    """Have evidence decided about by a verifier with this policy."""

    async def told() -> LeaseAnswer:
        world = await make_world(folder, ca, policy=policy)
        try:
            challenge = await world.service.leasing.challenge(world.node)
            evidence = world.attest(challenge, leases=wishes)
            made = await world.service.leasing.lease(world.node, evidence)
            return LeaseAnswer.parse(made.answer.body)
        finally:
            world.store.close()

    return asyncio.run(told())


def test_one_lease_is_decided_on_the_loop(tmp_path: Path, local_ca: LocalCA, where: Where) -> None:
    """A thread would take longer than all of it."""
    decided(tmp_path, local_ca, CHEAP, [default_lease()])
    assert where == [("verify_evidence", False), ("appraise", False), ("grant", False)]


def test_a_long_document_is_worked_on_aside(
    tmp_path: Path, local_ca: LocalCA, where: Where, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it but its token: the log is hashed, parsed and replayed."""
    monkeypatch.setattr(leasing, "ASIDE", 1024)
    decided(tmp_path, local_ca, CHEAP, [default_lease()])
    work = [("verify_evidence", True), ("boot_log_of", True), ("appraise", True), ("grant", False)]
    assert where == work


def test_a_list_longer_than_the_bound_is_judged_aside(
    tmp_path: Path, local_ca: LocalCA, where: Where, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here one without an entry, and a bound below it."""
    monkeypatch.setattr(judging, "_LONG_LIST", -1)
    decided(tmp_path, local_ca, CHEAP, [default_lease()])
    assert ("appraise", True) in where


def test_a_few_leases_of_many_costly_names_are_judged_aside(
    tmp_path: Path, local_ca: LocalCA, where: Where
) -> None:
    """What counts is what policy is asked, not by how many leases."""
    asked = replace(default_lease(wildcards(32)), optional=True)
    answer = decided(tmp_path, local_ca, COSTLY, [default_lease(), asked])
    assert [each.index for each in answer.denied] == [1]
    assert where == [("verify_evidence", False), ("appraise", True), ("grant", False)]


def test_the_same_names_are_judged_on_the_loop_where_that_is_quick(
    tmp_path: Path, local_ca: LocalCA, where: Where
) -> None:
    """Policies that name a few scopes in their heads take no time over a wildcard."""
    asked = replace(default_lease(wildcards(32)), optional=True)
    decided(tmp_path, local_ca, CHEAP, [default_lease(), asked])
    assert ("appraise", False) in where


def test_leases_for_many_relying_parties_are_judged_aside(
    tmp_path: Path, local_ca: LocalCA, where: Where
) -> None:
    """Policies are asked once for each, whatever the scope."""
    others = [
        replace(default_lease(), audience=f"https://{at}.example", optional=True) for at in range(8)
    ]
    decided(tmp_path, local_ca, CHEAP, [default_lease(), *others])
    assert ("appraise", True) in where


def test_many_keys_and_tokens_are_made_out_aside(
    tmp_path: Path, local_ca: LocalCA, where: Where
) -> None:
    """Each key is loaded, and each token signed."""
    assert len(decided(tmp_path, local_ca, CHEAP, numbered(17)).leases) == 17
    assert where == [("verify_evidence", True), ("appraise", False), ("grant", True)]


def test_an_answer_that_says_much_is_made_out_aside(
    tmp_path: Path, local_ca: LocalCA, where: Where
) -> None:
    """What is left out is told, in the record as in the answer: a token is the least of it."""
    denied = [replace(default_lease((f"deploy:{at}",)), optional=True) for at in range(17)]
    answer = decided(tmp_path, local_ca, CHEAP, [default_lease(), *denied])
    assert (len(answer.leases), len(answer.denied)) == (1, 17)
    assert where[-1] == ("grant", True)


def test_one_key_signs_all_tokens_of_an_answer(
    tmp_path: Path, local_ca: LocalCA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it is replaced while another thread signs: one key is recorded for all of them."""
    old, new = (PrivateKeySigner(ec.generate_private_key(ec.SECP256R1())) for _ in range(2))

    async def told() -> LeaseAnswer:
        world = await make_world(tmp_path, local_ca, policy=CHEAP)
        keys, now = world.service.tokens, world.clock.now()

        def rotating(*args: Any) -> Any:
            signed = sign_cwt(*args)
            keys.replace(new, Rotated(now, VerificationKey(old.public), ""))
            return signed

        keys.replace(old, Rotated(now, VerificationKey(keys.public), ""))
        monkeypatch.setattr(answers, "sign_cwt", rotating)
        try:
            challenge = await world.service.leasing.challenge(world.node)
            evidence = world.attest(challenge, leases=numbered(17))
            made = await world.service.leasing.lease(world.node, evidence)
            answer = LeaseAnswer.parse(made.answer.body)
            key_set = KeySet((VerificationKey(old.public),))
            for lease in answer.leases:
                verify_token(lease.token, key_set, now=now, issuer=ISSUER, audience=AUDIENCE)
            return answer
        finally:
            world.store.close()

    assert len(asyncio.run(told()).leases) == 17


def test_what_was_long_judged_is_no_leap_of_the_clock(
    tmp_path: Path, local_ca: LocalCA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the verifier would keep all leases for as long as any may live, and run out of room."""

    async def told() -> int:
        world = await make_world(tmp_path, local_ca, policy=CHEAP)
        live = world.service.ending.live

        def pass_time(seconds: int) -> None:
            for _ in range(seconds // 20):
                world.clock.pass_time(20)
                live.tidy(world.clock.now())

        def slowly(*args: Any, **others: Any) -> Any:
            pass_time(40)
            return appraise(*args, **others)

        monkeypatch.setattr(judging, "appraise", slowly)
        try:
            challenge = await world.service.leasing.challenge(world.node)
            evidence = world.attest(challenge, leases=[default_lease()])
            await world.service.leasing.lease(world.node, evidence)
            assert len(live) == 1
            pass_time(200)
            return len(live)
        finally:
            world.store.close()

    assert asyncio.run(told()) == 0


def test_only_a_few_are_judged_at_once(
    tmp_path: Path, local_ca: LocalCA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nodes that all ask for much leave threads for whatever else needs one."""
    busy, most, lock = 0, 0, threading.Lock()
    decide, waiting = Authorization.decide, threading.Event()

    def counted(*args: Any) -> Any:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        waiting.wait(0.05)
        with lock:
            busy -= 1
        return decide(*args)

    async def together() -> None:
        world = await make_world(tmp_path, local_ca, policy=COSTLY)
        monkeypatch.setattr(Authorization, "decide", counted)
        try:
            challenges = [await world.service.leasing.challenge(world.node) for _ in range(4)]
            wishes = [
                [default_lease(), replace(default_lease((f"r{at}:*", "r:*")), optional=True)]
                for at in range(4)
            ]
            bodies = [
                world.attest(challenge, leases=asked)
                for challenge, asked in zip(challenges, wishes, strict=True)
            ]
            await asyncio.gather(
                *(world.service.leasing.lease(world.node, body) for body in bodies)
            )
        finally:
            world.store.close()

    asyncio.run(together())
    assert most == 2
