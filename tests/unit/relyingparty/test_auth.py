"""The client's side: where the token comes from, and what each request carries."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bootlease.errors import BootleaseError, MalformedError, TransportError
from bootlease.relyingparty import StaticKeys, TokenChecker, UnsafeNoContinuity
from bootlease.relyingparty.auth import LeaseAuth
from bootlease.relyingparty.tokensource import (
    FileTokenSource,
    Presentable,
    RenewingTokenSource,
    TokenSource,
)
from bootlease.testing.tokens import (
    AUDIENCE,
    HOLDER,
    ISSUER,
    LIFE,
    NOW,
    FakeIssuer,
    execution_claims,
    fixed_signer,
)
from bootlease.token import TokenFormat, base64url

ISSUED = FakeIssuer()
BASE = "https://tools.example"


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        """Return what was set."""
        return self.now


class Holder:
    """Any source, and how often it was asked."""

    def __init__(self, *tokens: Presentable) -> None:
        self.tokens = list(tokens)
        self.asked = 0

    def current(self) -> Presentable:
        """Give one after the other, the last for ever."""
        self.asked += 1
        return self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]


def presentable(number: int = 0, form: TokenFormat = TokenFormat.CWT) -> Presentable:
    """Return a token and its key."""
    return Presentable.of(ISSUED.token(execution_claims(number), form), HOLDER)


class Server:
    """A relying party behind a client."""

    def __init__(self) -> None:
        self.seen: list[httpx2.Request] = []
        self.refuse = 0
        self.checker = TokenChecker(
            StaticKeys(ISSUED.keys),
            issuer=ISSUER,
            audience=AUDIENCE,
            continuity=UnsafeNoContinuity(),
            clock=lambda: float(NOW),
        )

    def handle(self, request: httpx2.Request) -> httpx2.Response:
        """Check a request as a relying party does."""
        self.seen.append(request)
        if len(self.seen) <= self.refuse:
            return httpx2.Response(401)
        if request.url.host != "tools.example":
            return httpx2.Response(200, text="elsewhere")
        checked = self.checker.check_request(
            authorization=request.headers.get("authorization"),
            dpop=request.headers.get("dpop"),
            method=request.method,
            url=str(request.url),
        )
        return httpx2.Response(200, text=checked.token.claims.subject)

    def auth(self, source: TokenSource, origin: str = BASE) -> LeaseAuth:
        """Return the client's side."""
        return LeaseAuth(source, origin=origin, clock=lambda: float(NOW))

    def get(self, source: TokenSource, url: str = f"{BASE}/search?q=1", **how: Any) -> Any:
        """Make a request."""
        with httpx2.Client(
            transport=httpx2.MockTransport(self.handle), auth=self.auth(source)
        ) as client:
            return client.get(url, **how)


@pytest.mark.parametrize("form", list(TokenFormat), ids=lambda each: each.name)
def test_each_request_carries_the_token_and_a_proof_of_its_own(form: TokenFormat) -> None:
    """A relying party takes them, one after the other."""
    server, source = Server(), Holder(presentable(form=form))
    for _ in range(2):
        assert server.get(source).status_code == 200
    proofs = {request.headers["dpop"] for request in server.seen}
    assert len(proofs) == 2


def test_a_request_may_be_asynchronous() -> None:
    """The same, where a source may take its time."""
    server = Server()

    async def test() -> int:
        transport = httpx2.MockTransport(server.handle)
        async with httpx2.AsyncClient(
            transport=transport, auth=server.auth(Holder(presentable()))
        ) as client:
            answer = await client.post(f"{BASE}/search")
            elsewhere = await client.get("https://elsewhere.example/")
            assert elsewhere.text == "elsewhere"
            return answer.status_code

    assert asyncio.run(test()) == 200
    assert "dpop" not in server.seen[1].headers


def test_it_is_a_function_of_a_request_too() -> None:
    """What takes a callable, such as httpx, can use it."""
    auth = Server().auth(Holder(presentable()))
    request = auth(httpx2.Request("GET", f"{BASE}/x"))
    assert request.headers["authorization"].startswith("DPoP ")
    assert "dpop" in request.headers
    other = auth(httpx2.Request("GET", "https://elsewhere.example/x"))
    assert "authorization" not in other.headers


@pytest.mark.parametrize(
    "url",
    ["https://elsewhere.example/", "http://tools.example/", "https://tools.example:8443/"],
)
def test_nobody_else_gets_the_token(url: str) -> None:
    """Another host, another scheme, another port."""
    server = Server()
    auth = server.auth(Holder(presentable()))
    assert "authorization" not in auth(httpx2.Request("GET", url)).headers


def test_a_default_port_may_be_written_out() -> None:
    """It is the same origin."""
    auth = Server().auth(Holder(presentable()), "https://tools.example:443/")
    assert "dpop" in auth(httpx2.Request("GET", f"{BASE}/x")).headers


@pytest.mark.parametrize(
    "origin", ["tools.example", "ftp://x", "https://", "https://x/path", "https://x/X"]
)
def test_the_origin_is_one(origin: str) -> None:
    """A typo is found at the start."""
    with pytest.raises(ValueError, match="origin"):
        Server().auth(Holder(presentable()), origin)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_refused_token_is_exchanged_for_a_newer_one(*, asynchronous: bool) -> None:
    """Once: the lease may have been renewed between the look and the request."""
    server, source = Server(), Holder(presentable(0), presentable(1))
    server.refuse = 1
    if asynchronous:

        async def test() -> httpx2.Response:
            transport = httpx2.MockTransport(server.handle)
            async with httpx2.AsyncClient(transport=transport, auth=server.auth(source)) as client:
                return await client.get(f"{BASE}/search")

        answer = asyncio.run(test())
    else:
        answer = server.get(source)
    assert answer.text == execution_claims(1).subject
    assert len(server.seen) == 2


def test_a_request_that_succeeds_is_made_once() -> None:
    """Also where a newer token is there by then, and elsewhere without any."""
    server = Server()
    assert server.get(Holder(presentable(0), presentable(1))).status_code == 200
    assert len(server.seen) == 1
    source = Holder(presentable(0), presentable(1))

    async def test() -> None:
        transport = httpx2.MockTransport(server.handle)
        async with httpx2.AsyncClient(transport=transport, auth=server.auth(source)) as client:
            assert (await client.get(f"{BASE}/search")).status_code == 200

    asyncio.run(test())
    assert len(server.seen) == 2
    untouched = Holder(presentable())
    assert server.get(untouched, "https://elsewhere.example/").text == "elsewhere"
    assert untouched.asked == 0
    assert "dpop" not in server.seen[2].headers


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_same_token_is_not_tried_twice(*, asynchronous: bool) -> None:
    """A refusal that a new proof cannot mend is passed on."""
    server, source = Server(), Holder(presentable())
    server.refuse = 5
    if asynchronous:

        async def test() -> httpx2.Response:
            transport = httpx2.MockTransport(server.handle)
            async with httpx2.AsyncClient(transport=transport, auth=server.auth(source)) as client:
                return await client.get(f"{BASE}/search")

        assert asyncio.run(test()).status_code == 401
    else:
        assert server.get(source).status_code == 401
    assert len(server.seen) == 1


# -- files of an agent


def pem(secret: int = 4711) -> bytes:
    """Return a confirmation key as the agent writes it."""
    key = ec.derive_private_key(secret, ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class Agent:
    """The two files of an agent."""

    def __init__(self, folder: Path) -> None:
        self.token, self.key = folder / "token", folder / "key.pem"
        self.clock = Clock()
        self.source = FileTokenSource(self.token, self.key, clock=self.clock)
        self.write()

    def write(
        self, number: int = 0, form: TokenFormat = TokenFormat.CWT, secret: int = 4711
    ) -> None:
        """Exchange both files as an agent does: each by renaming another over it."""
        signer = fixed_signer(secret)
        token = ISSUED.token(execution_claims(number, confirmation=signer.public), form)
        self.replace(self.key, pem(secret))
        self.replace(self.token, token if isinstance(token, bytes) else token.encode())

    @staticmethod
    def replace(path: Path, data: bytes) -> None:
        """Put a file in the place of another one."""
        other = path.with_suffix(".new")
        other.write_bytes(data)
        other.rename(path)


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    """An agent that holds a lease."""
    return Agent(tmp_path)


@pytest.mark.parametrize("form", list(TokenFormat), ids=lambda each: each.name)
def test_files_of_an_agent_are_presented(agent: Agent, form: TokenFormat) -> None:
    """Whatever the encoding, HTTP gets text; unchanged files are not read again."""
    agent.write(form=form)
    found = agent.source.current()
    assert found.claims == execution_claims()
    assert Server().get(agent.source).status_code == 200
    assert agent.source.current() is found


def test_a_renewal_is_noticed_at_once(agent: Agent) -> None:
    """With the same key, and with another one."""
    assert agent.source.current().claims.subject == execution_claims(0).subject
    agent.write(1)
    assert agent.source.current().claims.subject == execution_claims(1).subject
    agent.write(2, secret=13)
    assert agent.source.current().signer.public == fixed_signer(13).public


def test_a_lease_that_ended_is_not_presented(agent: Agent) -> None:
    """Neither when its files are gone nor when it has expired in them."""
    agent.clock.now = NOW + LIFE
    with pytest.raises(TransportError, match="has expired"):
        agent.source.current()
    agent.clock.now = NOW
    assert agent.source.current()
    agent.token.unlink()
    with pytest.raises(TransportError, match="no lease is held"):
        agent.source.current()
    agent.write(3)
    assert agent.source.current().claims.subject == execution_claims(3).subject


def test_a_token_waits_for_its_key(agent: Agent) -> None:
    """The agent writes one file after the other; a look in between is repeated."""
    agent.source.current()
    agent.replace(agent.key, pem(13))
    other = execution_claims(5, confirmation=fixed_signer(13).public)
    later = threading.Timer(0.03, lambda: agent.replace(agent.token, ISSUED.cwt(other)))
    later.start()
    assert agent.source.current().claims.subject == other.subject
    later.join()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda agent: agent.replace(agent.key, pem(13)), "another key"),
        (lambda agent: agent.replace(agent.key, b"rubbish"), "no PEM private key"),
        (lambda agent: agent.replace(agent.token, b"rubbish"), "."),
        (lambda agent: agent.replace(agent.token, b"x" * 100_000), "at most"),
    ],
    ids=["other key", "no key", "no token", "too long"],
)
def test_files_that_hold_something_else_are_malformed(
    agent: Agent, spoil: Callable[[Agent], None], message: str
) -> None:
    """It is said, and nothing is sent."""
    spoil(agent)
    with pytest.raises(MalformedError, match=message):
        agent.source.current()


def test_a_key_that_cannot_be_read_is_named(agent: Agent) -> None:
    """As the world's fault, not as a defect."""
    agent.key.unlink()
    agent.key.mkdir()
    with pytest.raises(TransportError, match=r"key\.pem"):
        agent.source.current()


def test_a_key_is_not_shown() -> None:
    """What is printed of a token and its key is neither."""
    assert "signer" not in repr(presentable())
    assert base64url.decode(presentable().token)


# -- tokens that a function gets


class Renewer:
    """Something that gets leases, and fails when told to."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.renewed = 0
        self.fail = False
        self.source = RenewingTokenSource(self.renew, clock=self.clock)

    def renew(self) -> Presentable:
        """Get the next lease."""
        self.renewed += 1
        if self.fail:
            raise TransportError("verifier gone")
        now = int(self.clock.now)
        claims = execution_claims(
            self.renewed, issued_at=now, not_before=now, expires_at=now + LIFE
        )
        return Presentable.of(ISSUED.cwt(claims), HOLDER)

    def number(self) -> int:
        """Return how many leases were got until the one in hand."""
        subject = self.source.current().claims.subject
        return next(n for n in range(9) if execution_claims(n).subject == subject)


def test_a_lease_is_renewed_early() -> None:
    """After two thirds of its time, and not before."""
    renewer = Renewer()
    assert renewer.number() == 1
    renewer.clock.now = NOW + 79
    assert renewer.number() == 1
    renewer.clock.now = NOW + 80
    assert renewer.number() == 2
    assert renewer.number() == 2


def test_a_lease_is_used_while_it_lasts_though_renewing_fails() -> None:
    """Tries keep a distance of a second; at its end the failure is the answer."""
    renewer = Renewer()
    renewer.source.current()
    renewer.fail = True
    renewer.clock.now = NOW + 100
    assert renewer.number() == 1
    assert renewer.number() == 1
    assert renewer.renewed == 2
    renewer.clock.now = NOW + 101
    assert renewer.number() == 1
    assert renewer.renewed == 3
    renewer.clock.now = NOW + LIFE
    with pytest.raises(TransportError, match="verifier gone"):
        renewer.source.current()
    renewer.fail = False
    assert renewer.number() == 5


def test_without_any_lease_the_failure_is_the_answer() -> None:
    """And so is a lease that is over when it comes."""
    renewer = Renewer()
    renewer.fail = True
    with pytest.raises(BootleaseError, match="verifier gone"):
        renewer.source.current()
    late = RenewingTokenSource(presentable, clock=lambda: NOW + LIFE)
    with pytest.raises(TransportError, match="has expired"):
        late.current()


@pytest.mark.parametrize("renew_at", [0, 1, 1.5])
def test_a_lease_is_renewed_before_its_end(renew_at: float) -> None:
    """Anything else is a mistake."""
    with pytest.raises(ValueError, match="before its time"):
        RenewingTokenSource(presentable, renew_at=renew_at)


def test_one_caller_renews_while_others_go_on() -> None:
    """A slow verifier holds up one request, not all of them."""
    renewer, free, asking = Renewer(), threading.Event(), threading.Event()
    first = renewer.source.current()

    def slow() -> Presentable:
        asking.set()
        assert free.wait(10)
        return presentable(3)

    renewer.source._renew = slow
    renewer.clock.now = NOW + 100
    thread = threading.Thread(target=renewer.source.current)
    thread.start()
    assert asking.wait(10)
    began = time.monotonic()
    assert renewer.source.current() is first
    assert time.monotonic() - began < 1
    free.set()
    thread.join()
    renewer.clock.now = NOW
    assert renewer.source.current().claims.subject == execution_claims(3).subject


@pytest.mark.parametrize("late", [0, 1], ids=["at its end", "after it"])
def test_who_holds_an_expired_lease_waits_for_the_next(late: int) -> None:
    """What is over is not given out, however slow the verifier is."""
    renewer, free, asking = Renewer(), threading.Event(), threading.Event()
    renewer.source.current()
    renewer.clock.now = NOW + LIFE + late
    renew = renewer.renew

    def slow() -> Presentable:
        asking.set()
        assert free.wait(10)
        return renew()

    renewer.source._renew = slow
    given: list[Presentable] = []
    threads = [
        threading.Thread(target=lambda: given.append(renewer.source.current())) for _ in range(2)
    ]
    threads[0].start()
    assert asking.wait(10)
    threads[1].start()
    threads[1].join(0.05)
    free.set()
    for thread in threads:
        thread.join(10)
    assert [each.claims.issued_at for each in given] == [NOW + LIFE + late] * 2


def test_all_who_wait_for_a_lease_get_the_same() -> None:
    """One renewal serves everybody that has nothing in hand."""
    renewer, free, asking = Renewer(), threading.Event(), threading.Event()
    renew, seen = renewer.source._renew, list[int]()

    def slow() -> Presentable:
        asking.set()
        assert free.wait(10)
        return renew()

    renewer.source._renew = slow
    threads = [threading.Thread(target=lambda: seen.append(renewer.number())) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert asking.wait(10)
    time.sleep(0.05)
    free.set()
    for thread in threads:
        thread.join()
    assert (seen, renewer.renewed) == ([1] * 4, 1)


def test_a_token_goes_with_its_own_key_only() -> None:
    """Another key would make proofs that nobody takes."""
    with pytest.raises(MalformedError, match="another key"):
        Presentable.of(ISSUED.cwt(execution_claims()), fixed_signer(13))
