"""Who is recorded as having acted as an operator, and when."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import Request

from bootlease.ports import Role, Store, StoreBusyError, StoredCredential
from bootlease.verifier.operators import logins as module
from bootlease.verifier.operators.access import secret_digest
from bootlease.verifier.operators.logins import IDLE, Logins, author_of
from bootlease.verifier.routes.authentication import authenticate

OPERATOR = StoredCredential(secret_digest("bladm_right"), "op", (Role.OPERATOR,))


class Ledger:
    """Takes its time to record.

    Attributes:
        records: Authors and clients, in order.
        failures: How many records fail first.
    """

    def __init__(self, failures: int = 0) -> None:
        self.records: list[tuple[str, str]] = []
        self.failures = failures

    async def record_event(
        self, kind: str, details: dict[str, str], *, now: int, author: str
    ) -> None:
        """Record."""
        assert kind == "admin.login"
        assert now >= 0
        await asyncio.sleep(0.01)
        if self.failures:
            self.failures -= 1
            raise StoreBusyError("too many writes wait")
        self.records.append((author, details["client"]))


class HandClock:
    """A clock that a test moves."""

    time = 1_000_000

    def now(self) -> int:
        """The time set."""
        return self.time

    def boottime(self) -> float:
        """The same."""
        return float(self.time)


def made(ledger: Ledger) -> tuple[Logins, HandClock]:
    """Logins that are recorded there, and their clock."""
    clock = HandClock()
    return Logins(cast("Store", ledger), clock), clock


@pytest.mark.parametrize(
    ("seconds", "records"), [(0, 1), (IDLE - 1, 1), (IDLE, 2), (-1, 2), (-10 * IDLE, 2)]
)
def test_a_login_is_over_after_a_quarter_of_an_hour(seconds: int, records: int) -> None:
    """To the second; a clock that went back tells nothing, so that is a login too."""
    ledger = Ledger()
    logins, clock = made(ledger)
    assert IDLE == 900

    async def story() -> None:
        await logins.seen(OPERATOR, "192.0.2.1")
        clock.time += seconds
        await logins.seen(OPERATOR, "192.0.2.1")

    asyncio.run(story())
    assert len(ledger.records) == records


def test_requests_keep_a_login_going() -> None:
    """Idle time counts from the last of them."""
    ledger = Ledger()
    logins, clock = made(ledger)

    async def story() -> None:
        for _ in range(5):
            await logins.seen(OPERATOR, "192.0.2.1")
            clock.time += IDLE - 1

    asyncio.run(story())
    assert len(ledger.records) == 1


def test_requests_that_come_together_are_one_login() -> None:
    """For each client and credential, and none of them goes on before it is recorded."""
    ledger = Ledger()
    logins, _ = made(ledger)
    other = StoredCredential(secret_digest("bladm_other"), "other")

    async def ask(credential: StoredCredential, client: str) -> None:
        await logins.seen(credential, client)
        assert (author_of(credential), client) in ledger.records

    async def story() -> None:
        who = [(OPERATOR, "192.0.2.1"), (OPERATOR, "192.0.2.2"), (other, "192.0.2.1")]
        await asyncio.gather(*(ask(*each) for each in who * 100))

    asyncio.run(story())
    assert len(ledger.records) == 3


def test_a_login_that_could_not_be_recorded_was_none() -> None:
    """Its request fails, and the next one records it."""
    ledger = Ledger(failures=1)
    logins, _ = made(ledger)

    async def story() -> list[BaseException | None]:
        together = [logins.seen(OPERATOR, "192.0.2.1") for _ in range(3)]
        return await asyncio.gather(*together, return_exceptions=True)

    done = asyncio.run(story())
    assert [type(each) for each in done] == [StoreBusyError, type(None), type(None)]
    assert len(ledger.records) == 1


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was seen longest ago is forgotten first, and logs in anew."""
    monkeypatch.setattr(module, "_REMEMBERED", 2)
    ledger = Ledger()
    logins, _ = made(ledger)

    async def story() -> None:
        for client in ("a", "b", "a", "c", "a", "b"):
            await logins.seen(OPERATOR, client)

    asyncio.run(story())
    assert [client for _, client in ledger.records] == ["a", "b", "c", "b"]


def request_with(credential: str, ledger: Ledger) -> Any:
    """An admin request to a verifier that knows one credential."""
    logins, clock = made(ledger)
    known = SimpleNamespace(credentials=[OPERATOR])
    service = SimpleNamespace(logins=logins, clock=clock, registry=SimpleNamespace(now=known))
    return SimpleNamespace(
        app=SimpleNamespace(state=SimpleNamespace(service=service)),
        headers={"authorization": f"Bearer {credential}"},
        client=SimpleNamespace(host="192.0.2.1"),
        state=SimpleNamespace(),
        method="GET",
        scope={"route": SimpleNamespace(path="/v1/admin/nodes")},
    )


def test_an_admin_request_is_recorded_before_it_is_done() -> None:
    """Where it cannot be recorded, the gate lets nobody pass."""
    ledger = Ledger(failures=1)
    request: Request = request_with("bladm_right", ledger)
    with pytest.raises(StoreBusyError):
        asyncio.run(authenticate(request))
    assert not hasattr(request.state, "author")
    asyncio.run(authenticate(request))
    assert request.state.author == author_of(OPERATOR)
    assert ledger.records == [(author_of(OPERATOR), "192.0.2.1")]


def test_two_credentials_of_one_label_are_told_apart() -> None:
    """The author is the label and how the credential's digest begins, whatever the label says."""
    first = StoredCredential(bytes.fromhex("1f0c22ab") + bytes(28), "alice")
    second = StoredCredential(b"\xff" * 32, "alice#1f0c22ab")
    assert author_of(first) == "operator:alice#1f0c22ab"
    assert author_of(second) == "operator:alice#1f0c22ab#ffffffff"
