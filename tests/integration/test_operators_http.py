"""Several people run one verifier: roles, labels, re-admission, replacement, two persons."""

from __future__ import annotations

import dataclasses
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from bootlease.cli import run
from bootlease.cli.admin import CREDENTIAL_VARIABLE
from bootlease.cli.exits import ExitCode
from bootlease.ledger import GovernanceRecord
from bootlease.testing import policies
from bootlease.testing.attesting_client import AttestingClient, finding_ids
from bootlease.testing.boot import SimulatedBoot
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import POLICY, default_lease
from bootlease.testing.simulated_node import SimulatedNode
from bootlease.testing.verifier_process import VerifierProcess, verifier_process
from bootlease.token import base64url

NewClient = Callable[..., AttestingClient]

BUILDERS = """permit (principal, action == Action::"lease", resource in Scope::"tool:search")
when { principal.labels.contains("role=build") };
"""


@dataclass
class Person:
    """Somebody at a terminal, with a credential.

    Attributes:
        running: The verifier.
        credential: The credential.
        capture: What the terminal shows.
        monkeypatch: Changes the environment.
    """

    running: VerifierProcess
    credential: str
    capture: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    def types(self, *words: str) -> tuple[int, str, str]:
        """Run a command; return its code and what it printed on both streams."""
        self.monkeypatch.setenv(CREDENTIAL_VARIABLE, self.credential)
        self.monkeypatch.setenv("BOOTLEASE_VERIFIER", self.running.url)
        self.capture.readouterr()
        code = run(list(words))
        shown = self.capture.readouterr()
        return code, shown.out, shown.err

    def does(self, *words: str) -> str:
        """Run a command that succeeds; return what it printed."""
        code, out, err = self.types(*words)
        assert code == ExitCode.ACCEPTED, err
        return out

    def gets(self, *words: str) -> Any:
        """Run a command that succeeds, and return its JSON."""
        return json.loads(self.does(*words, "--json"))


NewPerson = Callable[..., Person]


@pytest.fixture
def office(tmp_path: Path, local_ca: LocalCA, reference_file: bytes) -> Iterator[VerifierProcess]:
    """A verifier that a test may do anything with."""
    folder = tmp_path / "office"
    folder.mkdir()
    with verifier_process(
        folder, policy=POLICY, roots=local_ca.roots_pem, references=[reference_file]
    ) as process:
        yield process


@pytest.fixture
def person(
    office: VerifierProcess, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> NewPerson:
    """Finds the person at the machine; or makes one of some roles."""
    first = Person(office, office.credential, capsys, monkeypatch)

    def make(label: str = "", *roles: str, by: Person | None = None) -> Person:
        if not label:
            return first
        words = [word for role in roles for word in ("--role", role)]
        secret = (by or first).does("verifier", "credential", "add", "--label", label, *words)
        return dataclasses.replace(first, credential=secret.strip())

    return make


@pytest.fixture
def machine(
    office: VerifierProcess, local_ca: LocalCA, good_boot: SimulatedBoot
) -> Iterator[NewClient]:
    """Makes nodes that have booted well; enrolled unless told otherwise."""
    with httpx2.Client(base_url=office.url, timeout=20, trust_env=False) as http:

        def make(*, join_token: str | None = None, enrolled: bool = True) -> AttestingClient:
            device = SimulatedNode(local_ca, boot=good_boot)
            client = AttestingClient(http, device, (default_lease(),))
            if enrolled:
                client.enrol(join_token)
            return client

        yield make


def records(office: VerifierProcess) -> list[GovernanceRecord]:
    """Every governance record, the oldest first."""
    with closing(sqlite3.connect(office.folder / "verifier.db")) as database:
        rows = database.execute("SELECT record FROM governance ORDER BY number").fetchall()
    return [GovernanceRecord.parse(row[0]) for row in rows]


def counts(office: VerifierProcess, client: AttestingClient) -> bool:
    """Whether the token that a node was given last still counts."""
    token = client.answers[-1].leases[0].token
    answer = client.http.post(
        "/v1/introspect",
        content=b"token=" + base64url.encode(token).encode(),
        headers={
            "authorization": f"Bearer {office.credential}",
            "content-type": "application/x-www-form-urlencoded",
        },
    )
    answer.raise_for_status()
    active: bool = answer.json()["active"]
    return active


def begin_anew(client: AttestingClient) -> httpx2.Response:
    """Let a node forget its lineage and attest in full."""
    client.head = client.challenge = None
    return client.present(client.attest())


def test_a_role_is_what_its_holder_may_do(person: NewPerson, machine: NewClient) -> None:
    """The auditor reads, and is refused by what is missing; revoked, they read no more."""
    operator = person()
    node = machine().node.hex()
    auditor = person("alice", "auditor")
    assert node in auditor.does("verifier", "nodes")
    code, _, err = auditor.types("verifier", "label", node, "--label", "a=b")
    assert code == ExitCode.REFUSED
    assert "admin.role.refused" in err
    enroller = person("eve", "enroller")
    assert enroller.does("verifier", "label", node, "--label", "a=b") == f"node {node}: a=b\n"
    listed = operator.does("verifier", "credential", "list")
    assert re.search(
        r"^[0-9a-f]{8}  alice  auditor  made [-0-9]+ [:0-9]+ UTC$", listed, re.MULTILINE
    )
    assert operator.does("verifier", "credential", "revoke", "alice").startswith("revoked ")
    code, _, err = auditor.types("verifier", "nodes")
    assert code == ExitCode.REFUSED
    assert "admin.credential.refused" in err
    assert "revoked" in operator.does("verifier", "credential", "list")
    done = [(each.kind, each.author.partition("#")[0]) for each in records(operator.running)]
    assert ("credential.created", "operator:init") in done
    assert ("credential.revoked", "operator:init") in done
    assert ("node.labelled", "operator:eve") in done


def test_the_last_operator_stays(person: NewPerson) -> None:
    """Nobody shuts everybody out; nor is a credential revoked that is not clearly meant."""
    operator = person()
    person("alice", "auditor")
    person("alice", "enroller")
    code, _, err = operator.types("verifier", "credential", "revoke", "init")
    assert code == ExitCode.USAGE
    assert "last operator" in err
    for meant, how_many in (("alice", "more than one"), ("nobody", "no live"), ("", "no live")):
        code, _, err = operator.types("verifier", "credential", "revoke", meant)
        assert code == ExitCode.USAGE
        assert how_many in err


def test_labels_decide_what_a_node_is_granted(
    person: NewPerson, machine: NewClient, tmp_path: Path
) -> None:
    """A join token gives them, an operator changes them, and the next decision uses the change."""
    operator = person()
    policy = tmp_path / "policy.toml"
    policy.write_text(policies.make_policy(BUILDERS, enrolment__admit='"join-token"'))
    operator.does("policy", "activate", str(policy))
    token = operator.does("verifier", "join-token", "--label", "role=build", "--label", "env=lab")
    builder = machine(join_token=token.strip())
    builder.renew()
    builder.renew()
    node = builder.node.hex()
    assert operator.gets("verifier", "node", node)["labels"] == ["env=lab", "role=build"]
    assert "labels env=lab, role=build" in operator.does("verifier", "node", node)

    assert counts(operator.running, builder)
    operator.does("verifier", "label", node, "--label", "env=lab", "--label", "role=build")
    assert counts(operator.running, builder)
    assert operator.does("verifier", "label", node, "--label", "env=lab").endswith(": env=lab\n")
    assert not counts(operator.running, builder)
    renewed = builder.present(builder.attest())
    assert finding_ids(renewed) >= {"lineage.unknown-head"}
    assert "policy.scope.denied" in finding_ids(begin_anew(builder))

    operator.does("verifier", "label", node, "--label", "role=build")
    builder.keep(begin_anew(builder))
    assert counts(operator.running, builder)
    assert operator.does("verifier", "label", node, "--none") == f"node {node}: no label\n"


def test_a_cleared_tpm_is_refused_until_it_is_readmitted(
    person: NewPerson, machine: NewClient
) -> None:
    """However often it tries; and afterwards its counters count from where they are."""
    operator = person()
    client = machine()
    cleared = client.device.clock_info
    client.device.clock_info = dataclasses.replace(cleared, reset_count=5)
    client.keep(begin_anew(client))
    client.device.clock_info = cleared
    for _ in range(2):
        assert finding_ids(begin_anew(client)) == {"clock.reset-count.rollback"}
    node = client.node.hex()
    code, _, err = operator.types("verifier", "readmit", node)
    assert code == ExitCode.USAGE
    assert "--reason" in err
    said = operator.does("verifier", "readmit", node, "--reason", "TPM cleared for repair")
    assert said == f"node {node} may begin anew\n"
    client.keep(begin_anew(client))
    assert counts(operator.running, client)
    operator.does("verifier", "readmit", node, "--reason", "once more")
    assert not counts(operator.running, client)
    record, _ = [each for each in records(operator.running) if each.kind == "node.readmitted"]
    assert record.author.startswith("operator:init#")
    assert record.details["reason"] == "TPM cleared for repair"
    client.keep(begin_anew(client))
    mark = operator.gets("verifier", "node", node)["high_water"]
    assert mark["reset_count"] == cleared.reset_count


def test_another_mainboard_takes_the_place_of_the_old_one(
    person: NewPerson, machine: NewClient
) -> None:
    """It has the labels; the old one is refused, and may come back when an operator says so."""
    operator = person()
    old, new = machine(), machine()
    old.renew()
    operator.does("verifier", "label", old.node.hex(), "--label", "role=build")
    old.keep(begin_anew(old))
    new.renew()
    said = operator.does("verifier", "replace", old.node.hex(), "--by", new.node.hex())
    assert not counts(operator.running, old)
    assert not counts(operator.running, new)
    assert said.endswith("which is revoked: role=build\n")
    for answer in (
        old.present(old.attest()),
        old.http.post(f"/v1/nodes/{old.node.hex()}/challenges"),
        old.request_enrolment(),
    ):
        assert answer.status_code == 403
        assert finding_ids(answer) == {"node.revoked"}
    new.keep(begin_anew(new))
    assert operator.gets("verifier", "node", new.node.hex())["labels"] == ["role=build"]
    operator.does("verifier", "readmit", old.node.hex(), "--reason", "the old board was fine")
    old.keep(begin_anew(old))


def test_a_join_token_lets_another_mainboard_take_the_place(
    person: NewPerson, machine: NewClient, tmp_path: Path
) -> None:
    """The old one serves until the new one enrols."""
    operator = person()
    policy = tmp_path / "policy.toml"
    old = machine()
    policy.write_text(policies.make_policy(enrolment__admit='"join-token"'))
    operator.does("policy", "activate", str(policy))
    old.keep(begin_anew(old))
    operator.does("verifier", "label", old.node.hex(), "--label", "role=build")
    token = operator.does("verifier", "replace", old.node.hex(), "--join-token").strip()
    old.keep(begin_anew(old))
    assert counts(operator.running, old)
    new = machine(join_token=token)
    assert not counts(operator.running, old)
    assert finding_ids(old.present(old.attest())) == {"node.revoked"}
    assert operator.gets("verifier", "node", new.node.hex())["labels"] == ["role=build"]
    new.renew()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("labels", b'{"labels": ["B"]}'),
        ("labels", b'{"labels": "b"}'),
        ("labels", b'{"labels": [], "other": 1}'),
        ("readmission", b'{"reason": ""}'),
        ("readmission", b'{"reason": "a\\nb"}'),
        ("readmission", b'{"reason": 1}'),
        ("readmission", b"{}"),
        ("replacement", b"{}"),
        ("replacement", b'{"by": "zz"}'),
        ("replacement", b'{"by": "00"}'),
        ("replacement", b'{"by": 1}'),
        ("replacement", b'{"by": "SELF"}'),
        ("replacement", b'{"expires_in": 0}'),
        ("replacement", b'{"expires_in": 1, "by": "00"}'),
    ],
)
def test_what_makes_no_sense_is_malformed(
    running: VerifierProcess, new_client: NewClient, path: str, body: bytes
) -> None:
    """Nothing is done, and the answer says what would be understood."""
    client = new_client()
    node = client.node.hex()
    headers = {
        "authorization": f"Bearer {running.credential}",
        "content-type": "application/json",
    }
    answer = client.http.post(
        f"/v1/admin/nodes/{node}/{path}",
        content=body.replace(b"SELF", node.encode()),
        headers=headers,
    )
    assert answer.status_code == 400, answer.text
    client.renew()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("labels", b'{"labels": ["b"]}'),
        ("readmission", b'{"reason": "because"}'),
        ("replacement", b'{"expires_in": 60}'),
        ("replacement", b'{"by": "%s"}' % (b"00" * 32)),
    ],
)
def test_a_node_that_is_not_enrolled_is_unknown(
    running: VerifierProcess, http: httpx2.Client, path: str, body: bytes
) -> None:
    """404, and nothing is recorded."""
    answer = http.post(
        f"/v1/admin/nodes/{'11' * 32}/{path}",
        content=body,
        headers={
            "authorization": f"Bearer {running.credential}",
            "content-type": "application/json",
        },
    )
    assert answer.status_code == 404, answer.text


def digest_in(said: str) -> str:
    """The digest of the proposal that a command tells of."""
    found = re.search(r"bootlease policy approve ([0-9a-f]{64})", said)
    assert found is not None, said
    return found[1]


def test_a_policy_needs_two_persons_under_the_rule(
    person: NewPerson, machine: NewClient, tmp_path: Path
) -> None:
    """Proposed by one, approved by another; what is active are the bytes that were proposed."""
    operator = person()
    alice = person("alice", "operator", "policy-author")
    bob = person("bob", "policy-author")
    assert operator.types("verifier", "two-person", "on")[0] == ExitCode.USAGE
    carol = person("carol", "operator")
    assert operator.does("verifier", "two-person", "on") == "the two-person rule is on\n"
    # Nobody is asked to approve what is so already.
    assert alice.does("verifier", "two-person", "on") == "the two-person rule is on\n"
    aide = person("aide", "auditor", by=alice)

    policy = tmp_path / "policy.toml"
    text = "# as alice wrote it\n" + POLICY.replace("120", "90")
    policy.write_text(text)
    said = alice.does("policy", "activate", str(policy), "--revoke-now")
    assert said.startswith("proposed, not done yet")
    digest = digest_in(said)
    assert digest in bob.does("policy", "proposals")
    assert "revoke_now=1" in bob.does("policy", "proposals")
    assert bob.does("policy", "proposals", digest) == text
    node = machine()
    node.renew()

    for nobody, code in (
        (alice, ExitCode.USAGE),
        (operator, ExitCode.USAGE),
        (aide, ExitCode.REFUSED),
    ):
        assert nobody.types("policy", "approve", digest)[0] == code
    assert bob.does("policy", "approve", digest) == (
        "approved and done: policy default is active, epoch 2\n"
    )
    assert bob.types("policy", "approve", digest)[0] == ExitCode.USAGE
    with httpx2.Client(base_url=bob.running.url, trust_env=False) as http:
        headers = {"authorization": f"Bearer {bob.credential}"}
        active = http.get("/v1/admin/policies", headers=headers).json()
    assert active["document"] == text
    told = {each.kind: each for each in records(operator.running)}
    assert told["policy.proposed"].author.startswith("operator:alice#")
    assert told["policy.approved"].author.startswith("operator:bob#")
    both = told["policy.activated"].author
    assert re.fullmatch(r"operator:alice#\w{8}, approved by operator:bob#\w{8}", both)
    # What came with the request is done with it: earlier epochs count no longer.
    assert any(each.kind == "revocation.epoch" for each in records(operator.running))

    said = alice.does("verifier", "two-person", "off")
    assert alice.types("policy", "approve", digest_in(said))[0] == ExitCode.USAGE
    assert bob.types("policy", "approve", digest_in(said))[0] == ExitCode.REFUSED
    assert operator.does("verifier", "two-person", "show") == "the two-person rule is on\n"
    carol.does("policy", "approve", digest_in(said))
    assert operator.does("verifier", "two-person", "show") == "the two-person rule is off\n"


def test_references_roots_and_voices_need_two_persons_too(
    person: NewPerson, tmp_path: Path, reference_file: bytes
) -> None:
    """Else one of the two could widen what the policy accepts, or make the other."""
    alice = person("alice", "operator")
    bob = person("bob", "operator")
    alice.does("verifier", "two-person", "on")

    reference = tmp_path / "reference.json"
    reference.write_bytes(reference_file.replace(b'"1"', b'"2"', 1))
    said = alice.does("reference", "register", str(reference))
    assert "is registered" in bob.does("policy", "approve", digest_in(said))

    roots = tmp_path / "roots.pem"
    roots.write_bytes(LocalCA.create().roots_pem)
    said = alice.does("verifier", "add-root", str(roots))
    assert bob.does("policy", "approve", digest_in(said)) == "approved and done: root\n"

    words = ("verifier", "credential", "add", "--label", "dora")
    person("auditor", "auditor", by=alice)
    said = alice.does(*words, "--role", "policy-author")
    shown = bob.does("policy", "approve", digest_in(said))
    secret = shown.splitlines()[-1]
    assert secret.startswith("bladm_")
    dora = dataclasses.replace(bob, credential=secret)
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY.replace("120", "90"))
    said = bob.does("policy", "activate", str(policy))
    # Bob saw her credential.
    assert dora.types("policy", "approve", digest_in(said))[0] == ExitCode.USAGE
    alice.does("policy", "approve", digest_in(said))

    # Nor do two credentials that he saw make two persons.
    said = alice.does("verifier", "credential", "add", "--label", "erin", "--role", "policy-author")
    secret = bob.does("policy", "approve", digest_in(said)).splitlines()[-1]
    erin = dataclasses.replace(bob, credential=secret)
    policy.write_text(POLICY.replace("120", "80"))
    said = dora.does("policy", "activate", str(policy))
    assert erin.types("policy", "approve", digest_in(said))[0] == ExitCode.USAGE
    alice.does("policy", "approve", digest_in(said))


def test_what_was_revoked_is_taken_back_by_two_persons(person: NewPerson) -> None:
    """Else one of the two could bring back what the other one has taken away."""
    alice, bob = person("alice", "operator"), person("bob", "operator")
    alice.does("verifier", "two-person", "on")
    family = "IFX/SLB9670/*"
    words = ("revoke", "family", family, "--reason", "weak keys")
    # Taking away needs one.
    assert "is revoked" in alice.does(*words)
    said = alice.does(*words[:-1], "mended", "--lift")
    assert said.startswith("proposed, not done yet")
    assert "mended" in bob.does("policy", "proposals", digest_in(said))
    assert "lift" in bob.does("policy", "proposals")
    assert "taken back" not in alice.does("revoke", "list")
    assert alice.types("policy", "approve", digest_in(said))[0] == ExitCode.USAGE
    assert "no longer revoked: family make:" in bob.does("policy", "approve", digest_in(said))
    assert "taken back" in alice.does("revoke", "list")
    lifted = [each for each in records(alice.running) if each.kind == "revocation-lifted.family"]
    assert re.fullmatch(r"operator:alice#\w{8}, approved by operator:bob#\w{8}", lifted[0].author)
    # Nobody is asked to approve what is so already.
    assert alice.types(*words[:-1], "again", "--lift")[0] == ExitCode.USAGE


def test_nothing_is_approved_that_cannot_be_done(person: NewPerson, tmp_path: Path) -> None:
    """A policy whose references are missing waits on, for whoever registers them."""
    alice, bob = person("alice", "operator"), person("bob", "operator")
    alice.does("verifier", "two-person", "on")
    policy = tmp_path / "policy.toml"
    policy.write_text("nonsense")
    assert alice.types("policy", "activate", str(policy))[0] == ExitCode.USAGE
    policy.write_text(POLICY.replace('accept = ["golden"]', 'accept = ["silver"]'))
    digest = digest_in(alice.does("policy", "activate", str(policy)))
    code, _, err = bob.types("policy", "approve", digest)
    assert code == ExitCode.USAGE
    assert "silver" in err
    assert digest in bob.does("policy", "proposals")
    for unknown in ("11" * 32, "no digest"):
        assert bob.types("policy", "approve", unknown)[0] == ExitCode.USAGE


def test_a_bundle_gives_labels_too(
    person: NewPerson, machine: NewClient, office: VerifierProcess, tmp_path: Path
) -> None:
    """Whoever has the folder makes the join token there, with its labels."""
    operator = person()
    policy = tmp_path / "policy.toml"
    policy.write_text(policies.make_policy(enrolment__admit='"join-token"'))
    operator.does("policy", "activate", str(policy))
    token = office.join_bundle("--join-token", "--label", "role=build").join_token
    node = machine(join_token=token).node.hex()
    assert operator.gets("verifier", "node", node)["labels"] == ["role=build"]
