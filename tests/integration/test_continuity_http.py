"""Revocations over HTTP: each ends what it must, is told at once, and survives a restart."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from bootlease import cbor
from bootlease.evidence import IssuedLease, LeaseRequest, TokenEncoding
from bootlease.reference import parse_any_reference
from bootlease.testing.attesting_client import AttestingClient, finding_ids
from bootlease.testing.boot import SimulatedBoot
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import AUDIENCE, POLICY, default_lease, plain_key
from bootlease.testing.simulated_node import SimulatedNode
from bootlease.testing.verifier_process import VerifierProcess, run_cli, verifier_process
from bootlease.token import KeySet, base64url, parse_token
from bootlease.token.claimparts import status_index
from bootlease.token.continuity import CONTINUITY, Continuity, verify_statement
from bootlease.token.keyrotation import follow_rotations, parse_rotations
from bootlease.token.statuslist import STATUS_CWT, STATUS_JWT, verify_status_list

NewClient = Callable[..., AttestingClient]
NEXT_POLICY = POLICY.replace('id = "default"', 'id = "next"')


class Operator:
    """An operator of a verifier, who also looks at what relying parties are told."""

    def __init__(self, process: VerifierProcess, http: httpx2.Client) -> None:
        self.process = process
        self.http = http
        self.headers = {"authorization": f"Bearer {process.credential}"}

    def post(self, path: str, body: bytes, media_type: str = "application/json") -> httpx2.Response:
        """Send something to an operator's route."""
        headers = {**self.headers, "content-type": media_type}
        return self.http.post(path, content=body, headers=headers)

    def revoke(self, kind: str, subject: str, **more: Any) -> httpx2.Response:
        """Revoke something."""
        wish = {"kind": kind, "subject": subject, "reason": "because", **more}
        return self.post("/v1/admin/revocations", json.dumps(wish).encode())

    def activate(self, policy: str, query: str = "") -> int:
        """Activate a policy and return its epoch."""
        answer = self.post(f"/v1/admin/policies{query}", policy.encode(), "application/toml")
        answer.raise_for_status()
        epoch: int = answer.json()["epoch"]
        return epoch

    @property
    def keys(self) -> KeySet:
        """The token keys."""
        return KeySet.from_jwks(self.http.get("/.well-known/jwks.json").content)

    def statement(self) -> Continuity:
        """The continuity statement, as a relying party believes it."""
        answer = self.http.get("/v1/continuity")
        assert answer.headers["content-type"] == CONTINUITY
        return self.read(answer.text)

    def read(self, text: str) -> Continuity:
        """Verify a statement."""
        return verify_statement(text, self.keys, now=time.time(), issuer=self.process.url, leeway=5)

    def introspect(self, token: str) -> dict[str, Any]:
        """Ask whether a token counts."""
        answer = self.http.post("/v1/introspect", data={"token": token}, headers=self.headers)
        answer.raise_for_status()
        members: dict[str, Any] = answer.json()
        return members


@pytest.fixture
def operator(running: VerifierProcess, http: httpx2.Client) -> Operator:
    """The operator of the shared verifier."""
    return Operator(running, http)


@pytest.fixture
def alone(
    private_folder: Path, local_ca: LocalCA, reference_file: bytes
) -> Iterator[VerifierProcess]:
    """A verifier of the test's own."""
    with verifier_process(
        private_folder, policy=POLICY, roots=local_ca.roots_pem, references=[reference_file]
    ) as process:
        yield process


@contextlib.contextmanager
def connected(process: VerifierProcess) -> Iterator[Operator]:
    """Its operator, over a connection of their own."""
    with httpx2.Client(base_url=process.url, timeout=20, trust_env=False) as http:
        yield Operator(process, http)


def node_of(operator: Operator, local_ca: LocalCA, boot: SimulatedBoot) -> AttestingClient:
    """An enrolled node of a verifier of the test's own."""
    client = AttestingClient(operator.http, SimulatedNode(local_ca, boot=boot), (default_lease(),))
    client.enrol()
    return client


def bit(statement: Continuity, lease: IssuedLease) -> int:
    """What a statement says of a lease."""
    return statement.status.get(status_index(lease.lease_id))


def ends(operator: Operator, lease: IssuedLease, act: Callable[[], object]) -> None:
    """Demand that an act ends a lease: at once, in statement and status list, and not before."""
    assert bit(operator.statement(), lease) == 0
    start = time.monotonic()
    act()
    assert bit(operator.statement(), lease) == 1
    assert time.monotonic() - start < 1
    for accept in (STATUS_JWT, STATUS_CWT):
        answer = operator.http.get("/v1/status", headers={"accept": accept})
        assert answer.headers["content-type"] == accept
        listed = verify_status_list(
            answer.content if accept == STATUS_CWT else answer.text,
            operator.keys,
            now=time.time(),
            uri=f"{operator.process.url}/v1/status",
            leeway=5,
        )
        assert listed.status.get(status_index(lease.lease_id)) == 1


def test_a_token_names_its_place_in_the_status_list(
    new_client: NewClient, operator: Operator
) -> None:
    """The index is the end of the lease's id, and the list is where the token says."""
    lease = new_client().renew().leases[0]
    _, claims = parse_token(lease.token)
    assert claims.status_index == status_index(lease.lease_id)
    assert claims.status_uri == f"{operator.process.url}/v1/status"
    assert bit(operator.statement(), lease) == 0


def test_a_revoked_node_gets_nothing_until_it_is_readmitted(
    new_client: NewClient, operator: Operator
) -> None:
    """Its leases end; challenges, leases and stored answers are refused with a finding."""
    client, other = new_client(), new_client()
    spared = other.renew().leases[0]
    evidence = client.attest().encode()
    client.keep(client.present(evidence))
    before, pending = client.renew().leases[0], client.attest().encode()
    ends(operator, before, lambda: operator.revoke("node", client.node.hex()).raise_for_status())
    assert bit(operator.statement(), spared) == 0
    asked = client.http.post(f"/v1/nodes/{client.node.hex()}/challenges")
    for refused in (asked, client.present(pending), client.present(evidence)):
        assert refused.status_code == 403
        assert finding_ids(refused) == {"node.revoked"}
    again = operator.revoke("node", client.node.hex())
    assert again.status_code == 200
    readmitted = operator.post(
        f"/v1/admin/nodes/{client.node.hex()}/readmission", b'{"reason": "found again"}'
    )
    readmitted.raise_for_status()
    client.head = client.challenge = None
    assert bit(operator.statement(), client.renew().leases[0]) == 0
    assert bit(operator.statement(), before) == 1


def test_a_revoked_lease_ends_alone(new_client: NewClient, operator: Operator) -> None:
    """Its siblings and its node go on."""
    client = new_client()
    client.leases = (default_lease(), LeaseRequest(("repo:acme/x",), AUDIENCE, plain_key(12)))
    first, second = client.renew().leases
    ends(operator, first, lambda: operator.revoke("lease", first.lease_id.hex()).raise_for_status())
    assert bit(operator.statement(), second) == 0
    client.renew()


def test_a_revoked_lineage_ends_and_another_may_begin(
    new_client: NewClient, operator: Operator
) -> None:
    """Renewing it is refused; full evidence begins anew."""
    client = new_client()
    lease = client.renew().leases[0]
    root = parse_token(lease.token)[1].lineage.root
    ends(operator, lease, lambda: operator.revoke("lineage", root.hex()).raise_for_status())
    refused = client.present(client.attest())
    assert finding_ids(refused) == {"lineage.unknown-head"}
    client.head = client.challenge = None
    client.renew()


def test_a_revoked_reference_is_accepted_no_more_until_that_is_taken_back(
    alone: VerifierProcess, local_ca: LocalCA, good_boot: SimulatedBoot, reference_file: bytes
) -> None:
    """By name or digest; what booted so is refused, and old decisions stay what they were."""
    digest = parse_any_reference(reference_file).digest.hex()
    with connected(alone) as operator:
        client = node_of(operator, local_ca, good_boot)
        lease = client.renew().leases[0]
        named = parse_any_reference(reference_file).name
        ends(operator, lease, lambda: operator.revoke("reference", named).raise_for_status())
        (listed,) = operator.http.get("/v1/admin/references", headers=operator.headers).json()[
            "references"
        ]
        assert listed["accepted"] is False
        client.head = client.challenge = None
        assert client.present(client.attest()).status_code == 403
        assert operator.revoke("reference", digest, lift=True).status_code == 200
        client.challenge = None
        client.renew()
    alone.stop()
    # What was granted before the revocation still is what the verifier decides of it.
    replayed = run_cli("replay", "--all", "--data", str(alone.folder), "--workers", "1", "--json")
    assert json.loads(replayed)["decisions"] == 3, replayed


def test_a_revoked_family_gets_nothing(
    alone: VerifierProcess, local_ca: LocalCA, good_boot: SimulatedBoot
) -> None:
    """By make and by root: enrolled nodes, and those that would enrol."""
    with connected(alone) as operator:
        client = node_of(operator, local_ca, good_boot)
        root = _root_of(local_ca)
        for family in ("id:00001014/swtpm/*", f"root:{root}"):
            client.head = client.challenge = None
            lease = client.renew().leases[0]
            ends(
                operator,
                lease,
                functools.partial(operator.revoke, "family", family),
            )
            refused = client.http.post(f"/v1/nodes/{client.node.hex()}/challenges")
            assert finding_ids(refused) == {"endorsement.family.revoked"}
            new = AttestingClient(operator.http, SimulatedNode(local_ca, boot=good_boot), ())
            assert finding_ids(new.request_enrolment()) == {"endorsement.family.revoked"}
            assert operator.revoke("family", family, lift=True).status_code == 200


def _root_of(local_ca: LocalCA) -> str:
    return hashlib.sha256(local_ca.root.public_bytes(Encoding.DER)).hexdigest()


def test_an_epoch_ends_at_once_or_one_life_later(
    alone: VerifierProcess, local_ca: LocalCA, good_boot: SimulatedBoot
) -> None:
    """Activation stops nobody who complies; revoke-now and a revoked epoch do."""
    with connected(alone) as operator:
        client = node_of(operator, local_ca, good_boot)
        token = _text(client.renew().leases[0])
        assert operator.statement().min_epoch == 0
        assert operator.activate(NEXT_POLICY) == 2
        assert operator.statement().min_epoch == 0
        assert operator.introspect(token)["active"] is True
        assert operator.revoke("epoch", "2").status_code == 201
        assert operator.statement().min_epoch == 2
        assert operator.introspect(token) == {"active": False}
        assert operator.revoke("epoch", "3").status_code == 404
        token = _text(client.renew().leases[0])
        assert operator.introspect(token)["active"] is True
        assert operator.activate(POLICY, "?revoke_now=1") == 3
        assert operator.statement().min_epoch == 3
        assert operator.introspect(token) == {"active": False}
        alone.kill()
        alone.start()
    with connected(alone) as operator:
        assert operator.statement().min_epoch == 3


def _text(lease: IssuedLease) -> str:
    if lease.encoding is TokenEncoding.JWT:
        return lease.token.decode()
    return base64url.encode(lease.token)


def test_a_key_that_signs_cannot_be_revoked(operator: Operator) -> None:
    """Rotate it first: otherwise nothing would count."""
    (key,) = operator.keys.keys
    assert operator.statement().key_ids == {key.key_id}
    assert operator.revoke("key", key.key_id).status_code == 409
    assert operator.revoke("key", "x" * 43).status_code == 404


def test_what_cannot_be_revoked_is_not(new_client: NewClient, operator: Operator) -> None:
    """Unknown subjects are 404, what is none at all 400; nothing is recorded of either."""
    before = operator.http.get("/v1/admin/revocations", headers=operator.headers).json()
    for kind, subject in {
        ("node", "00" * 32),
        ("lease", "00" * 16),
        ("lineage", "00" * 32),
        ("reference", "nothing"),
        ("reference", "00" * 32),
    }:
        assert operator.revoke(kind, subject).status_code == 404, kind
    for kind, subject in {
        ("node", "00"),
        ("node", "XY" * 32),
        ("lease", "00" * 32),
        ("family", "IFX"),
        ("family", "root:00"),
        ("epoch", "-1"),
        ("key", "short"),
        ("moon", "1"),
    }:
        assert operator.revoke(kind, subject).status_code == 400, kind
    assert operator.revoke("node", "00" * 32, reason="").status_code == 400
    assert operator.revoke("node", new_client().node.hex(), lift=True).status_code == 409
    after = operator.http.get("/v1/admin/revocations", headers=operator.headers).json()
    assert after == before
    nobody = operator.http.post("/v1/admin/revocations", content=b"{}")
    assert nobody.status_code == 401


def test_a_refusal_ends_what_the_node_still_holds(
    new_client: NewClient, operator: Operator
) -> None:
    """Attack G9: a token does not outlive the refusal of live evidence."""
    client = new_client()
    lease = client.renew().leases[0]
    evidence = client.attest(leases=(default_lease(scope=("nobody:may",)),))

    def refuse() -> None:
        assert client.present(evidence).status_code == 403

    ends(operator, lease, refuse)


def test_a_new_lineage_ends_the_one_before(new_client: NewClient, operator: Operator) -> None:
    """What was granted in it counts no more; the new lease does."""
    client = new_client()
    first = client.renew().leases[0]
    client.head = client.challenge = None
    ends(operator, first, client.renew)
    assert bit(operator.statement(), client.answers[-1].leases[0]) == 0
    client.renew()
    assert bit(operator.statement(), client.answers[-2].leases[0]) == 0


def test_enrolling_again_ends_the_leases_before(new_client: NewClient, operator: Operator) -> None:
    """The lineage ends with the record it was granted on."""
    client = new_client()
    lease = client.renew().leases[0]
    ends(operator, lease, client.enrol)


def test_bits_survive_a_killed_verifier(
    alone: VerifierProcess, local_ca: LocalCA, good_boot: SimulatedBoot
) -> None:
    """Set bits stay, live leases stay live, and no index is given twice."""
    with connected(alone) as operator:
        refused, superseded, revoked, single, live = (
            node_of(operator, local_ca, good_boot) for _ in range(5)
        )
        ended = [each.renew().leases[0] for each in (refused, superseded, revoked, single)]
        kept = live.renew().leases[0]
        bad = refused.present(refused.attest(leases=(default_lease(scope=("nobody:may",)),)))
        assert bad.status_code == 403
        superseded.head = superseded.challenge = None
        kept_too = superseded.renew().leases[0]
        operator.revoke("node", revoked.node.hex()).raise_for_status()
        operator.revoke("lease", ended[3].lease_id.hex()).raise_for_status()
        assert [bit(operator.statement(), each) for each in ended] == [1, 1, 1, 1]
        sequence = operator.statement().sequence
        alone.kill()
        alone.start()
    with connected(alone) as operator:
        statement = operator.statement()
        assert [bit(statement, each) for each in ended] == [1, 1, 1, 1]
        assert [bit(statement, each) for each in (kept, kept_too)] == [0, 0]
        assert statement.sequence > sequence
        assert operator.introspect(_text(kept))["active"] is True
        live.http = superseded.http = operator.http
        fresh = live.renew().leases[0]
        before = [each.lease_id for each in (*ended, kept, kept_too)]
        assert status_index(fresh.lease_id) not in map(status_index, before)
        assert status_index(fresh.lease_id) >= 16_384
        # What lives on after a start still ends when it must.
        operator.revoke("node", live.node.hex()).raise_for_status()
        assert [bit(operator.statement(), each) for each in (kept, fresh)] == [1, 1]


class Listener:
    """Listens to the stream on a thread of its own."""

    def __init__(self, process: VerifierProcess) -> None:
        self.heard: list[tuple[float, str]] = []
        self.ended = threading.Event()
        self._http = httpx2.Client(base_url=process.url, timeout=30, trust_env=False)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with self._http.stream("GET", "/v1/continuity/stream") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    self.heard.append((time.monotonic(), line.removeprefix("data: ")))
        self._http.close()
        self.ended.set()

    def wait_for(self, count: int) -> None:
        """Wait until so many statements have come."""
        deadline = time.monotonic() + 10
        while len(self.heard) < count:
            assert time.monotonic() < deadline, "the stream says nothing"
            time.sleep(0.005)


def test_the_stream_tells_at_once_and_goes_on(
    alone: VerifierProcess, local_ca: LocalCA, good_boot: SimulatedBoot
) -> None:
    """The newest statement first, then every change within 100 ms, then when time has passed."""
    with connected(alone) as operator:
        client = node_of(operator, local_ca, good_boot)
        lease = client.renew().leases[0]
        listener = Listener(alone)
        listener.wait_for(1)
        assert bit(operator.read(listener.heard[0][1]), lease) == 0
        operator.revoke("lease", lease.lease_id.hex()).raise_for_status()
        done = time.monotonic()
        listener.wait_for(2)
        told, statement = listener.heard[1]
        # 100 ms, on a machine that has nothing else to do: ``test_statements`` measures that.
        assert told - done < 1
        assert bit(operator.read(statement), lease) == 1
        # A heartbeat, though nothing has changed.
        listener.wait_for(3)
        third = operator.read(listener.heard[2][1])
        assert third.issued_at > operator.read(statement).issued_at
        start = time.monotonic()
        assert alone.stop() == 0
        assert time.monotonic() - start < 4
        assert listener.ended.wait(5)


def test_listeners_are_bounded(alone: VerifierProcess) -> None:
    """One client has so many streams, and gives their places back."""
    with connected(alone) as operator, contextlib.ExitStack() as open_:
        clients = [
            open_.enter_context(httpx2.Client(base_url=alone.url, timeout=20, trust_env=False))
            for _ in range(32)
        ]
        for each in clients:
            open_.enter_context(each.stream("GET", "/v1/continuity/stream"))
        refused = operator.http.get("/v1/continuity/stream")
        assert refused.status_code == 429
        assert refused.headers["retry-after"]
        open_.close()
        deadline = time.monotonic() + 5
        while True:
            with operator.http.stream("GET", "/v1/continuity/stream") as answer:
                if answer.status_code == 200:
                    break
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_introspection_tells_nothing_of_what_does_not_count(
    new_client: NewClient, operator: Operator
) -> None:
    """RFC 7662 §2.2: what is active says what it says; the rest is inactive, whatever it is."""
    client = new_client()
    lease = client.renew().leases[0]
    told = operator.introspect(_text(lease))
    _, claims = parse_token(lease.token)
    assert told == {
        "active": True,
        "iss": operator.process.url,
        "sub": client.node.hex(),
        "aud": AUDIENCE,
        "iat": claims.issued_at,
        "nbf": claims.not_before,
        "exp": claims.expires_at,
        "jti": base64url.encode(lease.lease_id),
        "scope": "tool:search",
        "cnf": told["cnf"],
    }
    operator.revoke("lease", lease.lease_id.hex()).raise_for_status()
    broken = cbor.encode({1: 2}).hex()
    for token in (_text(lease), _text(lease)[:-8], "", "x.y.z", broken):
        assert operator.introspect(token) == {"active": False}
    unasked = operator.http.post("/v1/introspect", data={"token": _text(lease)})
    assert unasked.status_code == 401
    two = operator.http.post("/v1/introspect", data={"token": ["a", "b"]}, headers=operator.headers)
    assert two.status_code == 400


def test_a_relying_partys_credential_introspects_and_nothing_else(
    new_client: NewClient, operator: Operator
) -> None:
    """Whoever only checks tokens has no other right."""
    wish = {"label": "tools", "roles": ["relying-party"]}
    made = operator.post("/v1/admin/credentials", json.dumps(wish).encode())
    made.raise_for_status()
    credential = next(value for value in made.json().values() if str(value).startswith("bladm_"))
    theirs = Operator(operator.process, operator.http)
    theirs.headers = {"authorization": f"Bearer {credential}"}
    assert theirs.introspect(_text(new_client().renew().leases[0]))["active"] is True
    for path in ("/v1/admin/nodes", "/v1/admin/revocations", "/v1/admin/references"):
        assert operator.http.get(path, headers=theirs.headers).status_code == 403
    assert theirs.revoke("node", "00" * 32).status_code == 403


def test_the_configuration_says_where_to_ask(operator: Operator) -> None:
    """Statement, stream, list and introspection are found without guessing."""
    told = operator.http.get("/.well-known/bootlease-configuration").json()
    url = operator.process.url
    assert told["continuity_uri"] == f"{url}/v1/continuity"
    assert told["continuity_stream_uri"] == f"{url}/v1/continuity/stream"
    assert told["status_uri"] == f"{url}/v1/status"
    assert told["introspection_endpoint"] == f"{url}/v1/introspect"


def test_there_is_no_status_list_of_earlier_times(operator: Operator) -> None:
    """Draft §8.4: who asks for history is told that there is none."""
    assert operator.http.get("/v1/status?time=1700000000").status_code == 501


def test_statements_are_signed_for_many(operator: Operator) -> None:
    """Who asks often within a second gets the same bytes, and no signature is spent on it."""
    texts = [operator.http.get("/v1/continuity").text for _ in range(20)]
    assert len(set(texts)) <= 2


def test_the_command_revokes_and_lists(
    new_client: NewClient, operator: Operator, tmp_path: Path
) -> None:
    """As an operator would, with a reason that the ledger keeps."""
    client = new_client()
    lease = client.renew().leases[0]
    (tmp_path / "credential").write_text(operator.process.credential)
    options = (
        *("--verifier", operator.process.url),
        *("--credential-file", str(tmp_path / "credential")),
    )
    told = run_cli("revoke", "node", client.node.hex(), "--reason", "stolen", *options)
    assert told.decode() == (f"node {client.node.hex()} is revoked\nended: 1 lease of 1 node\n")
    assert bit(operator.statement(), lease) == 1
    listed = json.loads(run_cli("revoke", "list", "--json", *options))
    assert listed["revocations"][-1]["reason"] == "stolen"
    assert listed["revocations"][-1]["subject"] == client.node.hex()
    assert "stolen" in run_cli("revoke", "list", *options).decode()


def test_a_rotated_key_counts_until_it_is_revoked(
    alone: VerifierProcess, local_ca: LocalCA, good_boot: SimulatedBoot
) -> None:
    """Both are published and signed tokens count; a revoked one is withdrawn at once, for good."""
    with connected(alone) as operator:
        client = node_of(operator, local_ca, good_boot)
        (old,) = operator.keys.keys
        bundle = alone.join_bundle()
        before = _text(client.renew().leases[0])
        told = operator.post("/v1/admin/keys", b"{}")
        assert told.status_code == 201
        new, previous = told.json()["key"], told.json()["previous"]
        assert previous == old.key_id != new
        after = _text(client.renew().leases[0])
        assert [key.key_id for key in operator.keys.keys] == [new, old.key_id]
        published = KeySet.from_cose(operator.http.get("/.well-known/cose-keys").content)
        assert published.to_jwks() == operator.keys.to_jwks()
        statement = operator.statement()
        assert statement.key_ids == {new, old.key_id}
        assert statement.key_id == new
        assert operator.introspect(before)["active"] is True
        assert operator.introspect(after)["active"] is True
        # A node with the bundle from before follows; one that comes now has both keys.
        listed = operator.http.get("/.well-known/bootlease-key-rotations")
        rotations = parse_rotations(listed.content)
        followed = follow_rotations(bundle.keys, rotations, issuer=alone.url)
        assert [key.key_id for key in followed.keys] == [old.key_id, new]
        assert [key.key_id for key in alone.join_bundle().keys.keys] == [new, old.key_id]
        alone.kill()
        alone.start()
    with connected(alone) as operator:
        assert operator.statement().key_ids == {new, old.key_id}
        assert operator.introspect(before)["active"] is True
        assert operator.revoke("key", old.key_id).status_code == 201
        assert operator.statement().key_ids == {new}
        assert [key.key_id for key in operator.keys.keys] == [new]
        assert operator.introspect(before) == {"active": False}
        assert operator.introspect(after)["active"] is True
        assert [key.key_id for key in alone.join_bundle().keys.keys] == [new]
        wrong = operator.post("/v1/admin/keys", b'{"key": 1}')
        assert wrong.status_code == 400
        alone.kill()
        alone.start()
    with connected(alone) as operator:
        assert operator.statement().key_ids == {new}
    alone.stop()
    # An audit knows every key that ever signed.
    run_cli("replay", "--all", "--data", str(alone.folder), "--workers", "1", "--json")
