"""Level 3 from end to end: swtpm, agent, verifier process, relying party.

The agents here are real ones; a patched one is whoever goes on with what an agent held.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from bootlease.cli import run as run_cli
from bootlease.errors import TransportError, VerificationError
from bootlease.evidence import LeaseRequest
from bootlease.node.bundle import JoinBundle
from bootlease.node.client import VerifierClient
from bootlease.node.clock import SystemClock
from bootlease.node.confirm import Confirmation, ExpiringTPMKey, Purpose
from bootlease.node.lease import EndReason, HeldLease, LeaseKeeper
from bootlease.node.logs import EventLogFile
from bootlease.node.memory import Memory, Sent
from bootlease.node.renewal.agent import NodeAgent
from bootlease.node.renewal.settings import Settings
from bootlease.node.wish import LeaseWish
from bootlease.reference import serialise_reference
from bootlease.relyingparty import StaticKeys, TokenChecker, UnsafeNoContinuity
from bootlease.testing.attesting_client import AttestingClient, finding_ids
from bootlease.testing.boot import SimulatedBoot
from bootlease.testing.golden import golden_reference
from bootlease.testing.keys import fresh_keys
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.node_on_swtpm import NodeOnSwtpm
from bootlease.testing.policies import AUDIENCE, make_policy
from bootlease.testing.scene import plain_key
from bootlease.testing.simulated_node import SimulatedNode
from bootlease.testing.verifier_process import VerifierProcess, verifier_process
from bootlease.token import KeyProtection, base64url, make_proof

LIFE = 8
WISH = LeaseWish(("tool:search",), AUDIENCE, level=3)
URL = "https://tools.example/search"
PATIENCE = 30.0


class Forgetful:
    """An agent's memory that nothing outlives."""

    def load(self) -> Memory:
        """Return nothing."""
        return Memory("boot-1")

    def save(self, memory: Memory) -> None:
        """Forget it."""

    def load_sent(self) -> Sent | None:
        """Return nothing."""

    def save_sent(self, sent: Sent) -> None:
        """Forget it."""


class Nowhere:
    """Hands out nothing."""

    def granted(self, lease: HeldLease) -> None:
        """Keep it."""

    def ended(self, reason: EndReason, findings: object) -> None:
        """Forget it."""


def _silently(_: str) -> None:
    pass


@dataclass
class Site:
    """A verifier of short leases and a booted node."""

    verifier: VerifierProcess
    node: NodeOnSwtpm
    folder: Path

    def agent(self, client: VerifierClient, confirmation: Confirmation) -> NodeAgent:
        """Return an agent of the node."""
        clock, log = SystemClock(), self.folder / "log"
        log.write_bytes(self.node.event_log)
        return NodeAgent(
            Settings(self.verifier.join_bundle(), (WISH,), confirmation),
            device=self.node.device,
            log=EventLogFile(log),
            verifier=client,
            keeper=LeaseKeeper(clock, Nowhere()),
            store=Forgetful(),
            clock=clock,
            jitter=lambda: 0.0,
            say=_silently,
        )

    def checker(self) -> TokenChecker:
        """Return a relying party that demands level 3."""
        bundle = self.verifier.join_bundle()
        return TokenChecker(
            StaticKeys(bundle.keys),
            issuer=bundle.issuer,
            audience=AUDIENCE,
            continuity=UnsafeNoContinuity(),
            require_level=3,
        )


@pytest.fixture
def site(simulated_node: NodeOnSwtpm, local_ca: LocalCA, tmp_path: Path) -> Iterator[Site]:
    """A verifier that accepts what the node has booted."""
    policy = make_policy(
        enrolment__ek_algorithm=f'"{simulated_node.device.ek_algorithm.value}"',
        lease__life=str(LIFE),
    )
    with verifier_process(
        tmp_path,
        policy=policy,
        roots=local_ca.roots_pem,
        references=[serialise_reference(golden_reference(simulated_node.last_boot))],
    ) as verifier:
        yield Site(verifier, simulated_node, tmp_path)


def present(checker: TokenChecker, lease: HeldLease) -> None:
    """Call the relying party as the holder of the lease's key does."""
    (key,), (encoded,) = lease.keys, lease.encoded
    token = base64url.encode(encoded)
    assert key.signer is not None
    proof = make_proof(
        key.signer,
        htm="GET",
        htu=URL,
        iat=int(time.time()),
        jti=os.urandom(16).hex(),
        access_token=token,
    )
    checker.check_request(
        authorization=f"DPoP {token}", dpop=proof, method="GET", url=URL, scope="tool:search"
    )


@pytest.mark.swtpm
def test_authority_ends_in_the_tpm(site: Site) -> None:
    """A relying party that demands level 3 takes the lease; after its end nobody can prove it."""
    with contextlib.closing(VerifierClient(site.verifier.join_bundle())) as client:
        agent = site.agent(client, Confirmation.TPM_EXPIRING)
        lease, checker = agent.renew(), site.checker()
        claims = lease.tokens[0].claims
        assert (claims.level, claims.protection) == (3, KeyProtection.TPM_EXPIRING)
        present(checker, lease)
        # Each life counts from a challenge that came with the answer before.
        renewed = lease
        while renewed.expires_at < lease.expires_at + LIFE / 2:
            time.sleep(LIFE / 4)
            renewed = agent.renew()
        assert renewed.keys == lease.keys
        time.sleep(max(0.0, lease.expires_at + 0.1 - time.time()))
        present(checker, renewed)
        # The agent is patched from here on: it renews no more, and goes on signing.
        time.sleep(max(0.0, renewed.expires_at - time.time()))
        began = time.time()
        with pytest.raises(TransportError, match="the policy has expired"):
            present(checker, renewed)
        # The relying party alone would have gone on for its leeway.
        assert began < renewed.expires_at + 5


@pytest.mark.swtpm
def test_the_key_is_usable_for_most_of_the_lease(site: Site) -> None:
    """The TPM's end is at most two seconds before the lease's, besides the way to the verifier."""
    with contextlib.closing(VerifierClient(site.verifier.join_bundle())) as client:
        lease = site.agent(client, Confirmation.TPM_EXPIRING).renew()
    (key,) = lease.keys
    assert key.signer is not None
    last = 0.0
    while time.time() < lease.expires_at:
        try:
            key.signer.sign(b"data")
        except TransportError:
            break
        last = time.time()
        time.sleep(0.05)
    assert lease.expires_at - 2.5 < last < lease.expires_at


@pytest.mark.swtpm
@pytest.mark.parametrize("kind", [Confirmation.PROCESS, Confirmation.TPM])
def test_an_agent_that_lies_about_its_level_is_refused(site: Site, kind: Confirmation) -> None:
    """Level 3 with a key that lasts gets no lease from the verifier."""
    with contextlib.closing(VerifierClient(site.verifier.join_bundle())) as client:
        with pytest.raises(VerificationError) as refused:
            site.agent(client, kind).renew()
        assert [each.id for each in refused.value.findings] == ["lease.level.unproven"]


@pytest.mark.swtpm
def test_the_decision_can_be_made_again(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """What was decided about expiring keys, grant and refusal, follows from what was recorded."""
    with contextlib.closing(VerifierClient(site.verifier.join_bundle())) as client:
        agent = site.agent(client, Confirmation.TPM_EXPIRING)
        agent.renew()
        lease = agent.renew()
        with pytest.raises(VerificationError):
            site.agent(client, Confirmation.PROCESS).renew()
    site.verifier.kill()
    data = str(site.verifier.folder)
    assert run_cli(["replay", "--data", data, "--all", "--json"]) == 0, capsys.readouterr()
    capsys.readouterr()
    proof, bundle = site.folder / "lease.proof", site.folder / "bundle.json"
    lease_id = lease.tokens[0].claims.lease_id.hex()
    asked = ["ledger", "proof", lease_id, "--data", data, "--out", str(proof)]
    assert run_cli(asked) == 0, capsys.readouterr()
    assert run_cli(["verifier", "bundle", "--data", data, "-o", str(bundle)]) == 0
    assert run_cli(["ledger", "verify", str(proof), "--trust", str(bundle)]) == 0


@pytest.mark.swtpm
def test_the_command_keeps_such_a_lease(site: Site) -> None:
    """``bootlease node run --confirmation tpm-expiring`` enrols, is granted, and renews."""
    folder = site.folder
    (folder / "log").write_bytes(site.node.event_log)
    bundle = folder / "join.json"
    data = str(site.verifier.folder)
    assert run_cli(["verifier", "bundle", "--data", data, "-o", str(bundle)]) == 0
    site.node.device.close()
    options = (
        *("--bundle", str(bundle), "--tcti", site.node.tcti, "--state", str(folder / "state")),
        *("--log", str(folder / "log"), "--scope", "tool:search", "--audience", AUDIENCE),
        *("--confirmation", "tpm-expiring", "--ek-algorithm", site.node.device.ek_algorithm.value),
    )
    command = [sys.executable, "-m", "bootlease", "node", "run", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        killer = signal.SIGKILL
        try:
            end = time.monotonic() + PATIENCE
            for line in process.stderr:
                if "lease 1 granted" in line:
                    killer = signal.SIGTERM
                    break
                assert time.monotonic() < end
            else:
                pytest.fail("the agent ended")
        finally:
            process.send_signal(killer)
    old = json.loads(bundle.read_text())
    del old["leash_key"]
    bundle.write_text(json.dumps(old))
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 2
    assert "leash_key" in done.stderr


# -- the verifier


@pytest.fixture
def expiring_client(
    http: httpx2.Client, running: VerifierProcess, local_ca: LocalCA, good_boot: SimulatedBoot
) -> AttestingClient:
    """A simulated node that asks for a lease with an expiring key."""
    client = AttestingClient(http, SimulatedNode(local_ca, boot=good_boot), ())
    client.enrol()
    client.leases = (asking(client, running.join_bundle()),)
    return client


def asking(client: AttestingClient, bundle: JoinBundle, wish: LeaseWish = WISH) -> LeaseRequest:
    """Return a wish with an expiring key of the client's device."""
    assert bundle.leash_key is not None
    purpose = Purpose(bundle.leash_key, client.node, wish.purpose())
    key = ExpiringTPMKey(client.device, purpose)
    key.session = client.device.begin_permits()
    return wish.request(key)


def with_another_leash_key(bundle: JoinBundle) -> JoinBundle:
    """Return a bundle with the leash key of another verifier, or of before."""
    other = fresh_keys("https://other.example").leash
    assert other is not None
    return dataclasses.replace(bundle, leash_key=other.public)


def test_a_permit_ends_with_its_lease(expiring_client: AttestingClient) -> None:
    """It rides in the answer, for as many seconds as are left, less one; asked again, the same."""
    evidence = expiring_client.attest().encode()
    before = int(time.time())
    first, second = expiring_client.present(evidence), expiring_client.present(evidence)
    assert first.content == second.content
    (lease,) = expiring_client.keep(first).leases
    assert lease.permit is not None
    assert 0 < lease.permit.seconds <= lease.expires_at - before - 1


def test_keys_that_wait_for_another_s_permits_are_refused_unrecorded(
    expiring_client: AttestingClient, running: VerifierProcess
) -> None:
    """Nothing is spent: the node begins anew with the verifier's leash key."""
    bundle = with_another_leash_key(running.join_bundle())
    refused = expiring_client.present(
        expiring_client.attest(leases=[asking(expiring_client, bundle)])
    )
    assert refused.status_code == 403
    assert finding_ids(refused) == {"expiring-key.authority.mismatch"}
    assert "decision" not in refused.json()
    assert len(expiring_client.renew().leases) == 1


def test_an_optional_key_that_waits_for_another_s_permits_stops_no_other_lease(
    expiring_client: AttestingClient, running: VerifierProcess
) -> None:
    """What the verifier's own leash key permits is renewed; the stray one is left out, and told."""
    stray = asking(
        expiring_client,
        with_another_leash_key(running.join_bundle()),
        dataclasses.replace(WISH, optional=True),
    )
    own = asking(expiring_client, running.join_bundle())
    expiring_client.leases = (stray, own)
    for _ in range(2):
        answer = expiring_client.renew()
        assert [lease.permit is None for lease in answer.leases] == [False]
        assert [(each.index, each.findings[0].id) for each in answer.denied] == [
            (0, "expiring-key.authority.mismatch")
        ]


def test_a_lie_stops_no_honest_lease(expiring_client: AttestingClient) -> None:
    """An optional lease at level 3 without proof is left out, and the answer says why."""
    lie = LeaseRequest(("tool:search",), AUDIENCE, plain_key(), level=3, optional=True)
    expiring_client.leases = (*expiring_client.leases, lie)
    answer = expiring_client.renew()
    assert [lease.permit is None for lease in answer.leases] == [False]
    ((denied,),) = [each.findings for each in answer.denied]
    assert denied.id == "lease.level.unproven"


def test_the_leash_key_is_published_and_is_no_other_key(
    http: httpx2.Client, running: VerifierProcess
) -> None:
    """In the configuration and in join bundles the same; it signs no token and no event."""
    configuration = http.get("/.well-known/bootlease-configuration").json()
    headers = {"authorization": f"Bearer {running.credential}"}
    served = http.get("/v1/admin/bundle", headers=headers).json()
    bundle = running.join_bundle()
    assert bundle.leash_key is not None
    assert configuration["leash_key"] == served["leash_key"] == bundle.leash_key.jwk()
    token_keys = http.get("/.well-known/jwks.json").json()["keys"]
    assert bundle.leash_key.jwk()["x"] not in {key.get("x") for key in token_keys}


def test_an_older_folder_gets_a_leash_key_when_it_is_served(
    private_folder: Path, local_ca: LocalCA, reference_file: bytes
) -> None:
    """Made once, mode 0600, and kept; everything else goes on as it did."""
    with verifier_process(
        private_folder,
        policy=make_policy(),
        roots=local_ca.roots_pem,
        references=[reference_file],
        prepare=(private_folder / "verifier" / "leash-key.pem").unlink,
    ) as verifier:
        path = verifier.folder / "leash-key.pem"
        assert path.stat().st_mode & 0o777 == 0o600
        first = verifier.join_bundle().leash_key
        assert first is not None
        verifier.kill()
        verifier.start()
        assert verifier.join_bundle().leash_key == first
