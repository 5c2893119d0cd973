"""IMA from a software TPM to a verifier over HTTP, and into the auditor's hands."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx2
import pytest

from bootlease.audit import ProofTrust, verify_proof
from bootlease.cli.ledger_check import Ground, check_ledger
from bootlease.errors import VerificationError
from bootlease.evidence import Evidence, LeaseAnswer, parse_evidence
from bootlease.ledger.prooffile import parse_proof
from bootlease.lineage import Prior
from bootlease.model import Effect
from bootlease.node.client import VerifierClient
from bootlease.node.clock import SystemClock
from bootlease.node.ima import IMAListFile
from bootlease.node.lease import HeldLease, LeaseKeeper
from bootlease.node.logs import EventLogFile
from bootlease.node.outputs import LeaseFiles
from bootlease.node.renewal.agent import NodeAgent
from bootlease.node.renewal.settings import Settings
from bootlease.node.state import StateDirectory
from bootlease.node.tpm.key_kinds import EKAlgorithm
from bootlease.node.wish import LeaseWish
from bootlease.reference import serialise_any_reference
from bootlease.store.auditreader import audit_reader, lease_proof
from bootlease.testing.ima_list import SimulatedIMA
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.node_on_swtpm import NodeOnSwtpm
from bootlease.testing.recorded_verifier import ISSUER, RecordedVerifier, recorded_verifier
from bootlease.testing.scene import AUDIENCE, IMA_POLICY, files_reference
from bootlease.testing.verifier_process import VerifierProcess, run_cli, verifier_process
from bootlease.token import KeySet, VerificationKey
from bootlease.verifier.datadir import DATABASE, load_keys

BASH, CAT, MINER = "/usr/bin/bash", "/usr/bin/cat", "/opt/miner"
FILES: Final = {BASH: b"bash", CAT: b"cat"}
DAY: Final = 86_400


@dataclass
class Recording:
    """A client of a real verifier that keeps what it sends."""

    client: VerifierClient
    sent: list[bytes] = field(default_factory=list)

    def __getattr__(self, name: str) -> object:
        return getattr(self.client, name)

    def lease(self, node: bytes, evidence: bytes) -> LeaseAnswer:
        """Present evidence."""
        self.sent.append(evidence)
        return self.client.lease(node, evidence)


@dataclass
class Site:
    """A node on swtpm whose kernel measures, its agent, and a verifier process."""

    folder: Path
    node: NodeOnSwtpm
    ima: SimulatedIMA
    verifier: VerifierProcess
    calls: Recording
    said: list[str]
    agent: NodeAgent

    def renew(self) -> HeldLease:
        """Let the agent attest."""
        (self.folder / "ima").write_bytes(self.ima.data)
        return self.agent.renew()

    def last(self, count: int = 1) -> Sequence[Evidence]:
        """Return what the agent sent last."""
        return [parse_evidence(each) for each in self.calls.sent[-count:]]


@pytest.fixture
def looking(
    tmp_path_factory: pytest.TempPathFactory, local_ca: LocalCA, reference_file: bytes
) -> Iterator[VerifierProcess]:
    """A verifier that looks at IMA."""
    files = serialise_any_reference(files_reference(FILES))
    with verifier_process(
        tmp_path_factory.mktemp("looking"),
        policy=IMA_POLICY,
        roots=local_ca.roots_pem,
        references=[reference_file, files],
    ) as process:
        yield process


@pytest.fixture
def site(simulated_node: NodeOnSwtpm, looking: VerifierProcess, tmp_path: Path) -> Iterator[Site]:
    """A node that has loaded one good file and asked for nothing yet."""
    ima = simulated_node.start_ima()
    ima.measure(BASH, b"bash")
    (tmp_path / "log").write_bytes(simulated_node.event_log)
    simulated_node.device.ek_algorithm = EKAlgorithm.ECC_P256
    bundle, clock, said = looking.join_bundle(), SystemClock(), list[str]()
    with (
        closing(VerifierClient(bundle)) as client,
        StateDirectory(tmp_path / "state") as state,
    ):
        calls = Recording(client)
        agent = NodeAgent(
            Settings(bundle, (LeaseWish(("tool:search",), AUDIENCE),)),
            device=simulated_node.device,
            log=EventLogFile(tmp_path / "log"),
            verifier=calls,  # type: ignore[arg-type]  # the rest is the client's
            keeper=LeaseKeeper(clock, LeaseFiles()),
            store=state,
            clock=clock,
            jitter=lambda: 0.0,
            say=said.append,
            ima=IMAListFile(tmp_path / "ima"),
        )
        yield Site(tmp_path, simulated_node, ima, looking, calls, said, agent)


def register(verifier: VerifierProcess, version: str, files: dict[str, bytes]) -> None:
    """Register another version of the set that the policy accepts."""
    document = serialise_any_reference(files_reference(files, version=version))
    answer = httpx2.post(
        f"{verifier.url}/v1/admin/references",
        content=document,
        headers={
            "authorization": f"Bearer {verifier.credential}",
            "content-type": "application/json",
        },
        trust_env=False,
    )
    assert answer.status_code == 201, answer.text


@pytest.mark.swtpm
def test_a_lease_follows_what_a_node_loads(site: Site) -> None:
    """Enrolled, renewed by new entries alone, asked for the whole list once, refused by name."""
    assert site.renew().tokens[0].claims.lineage.seq == 0
    (first,) = site.last()
    assert first.logs == {"ima": site.ima.data, "tcg": site.node.event_log}

    for _ in range(40):
        site.ima.measure(CAT, b"cat")
    assert site.renew().tokens[0].claims.lineage.seq == 1
    (second,) = site.last()
    assert second.logs == {"ima": site.ima.since(2)}
    assert site.renew().tokens[0].claims.lineage.seq == 2
    (third,) = site.last()
    assert (third.logs, third.ima.first if third.ima else None) == ({}, 42)
    assert len(site.calls.sent[-1]) < 1500

    register(site.verifier, "2", FILES | {"/usr/bin/id": b"id"})
    site.ima.measure("/usr/bin/id", b"id")
    assert site.renew().tokens[0].claims.lineage.seq == 3
    part, whole = site.last(2)
    assert (part.quote, whole.logs) == (whole.quote, {"ima": site.ima.data})
    assert "the verifier asks for a log in full" in site.said

    site.ima.measure(MINER, b"miner")
    with pytest.raises(VerificationError) as refused:
        site.renew()
    (finding,) = [each for each in refused.value.findings if each.effect is Effect.REFUSES]
    assert finding.id == "ima.file.unlisted"
    assert MINER in finding.message


@pytest.mark.swtpm
def test_what_was_granted_is_proven_and_made_again(site: Site, tmp_path: Path) -> None:
    """The commands of an auditor find every decision right, and prove a renewal offline."""
    site.renew()
    site.ima.measure(CAT, b"cat")
    lease, part = site.renew(), site.ima.since(2)
    site.ima.measure(MINER, b"miner")
    with pytest.raises(VerificationError):
        site.renew()
    bundle = tmp_path / "bundle.json"
    run_cli("verifier", "bundle", "--data", str(site.verifier.folder), "-o", str(bundle))
    site.verifier.stop()
    made = run_cli("replay", "--all", "--data", str(site.verifier.folder), "--json")
    assert json.loads(made)["differences"] == []
    proof = tmp_path / "lease.proof"
    lease_id = lease.tokens[0].claims.lease_id.hex()
    data = ("--data", str(site.verifier.folder))
    run_cli("ledger", "proof", lease_id, *data, "--out", str(proof))
    site.verifier.folder.rename(tmp_path / "away")
    said = run_cli("ledger", "verify", str(proof), "--trust", str(bundle), "--json")
    assert json.loads(said)["lineage"]["decisions"] == 2
    assert part in proof.read_bytes()


@pytest.mark.swtpm
def test_a_tpm_that_was_reset_under_its_kernel_is_refused(site: Site) -> None:
    """E12: the list goes on, PCR 10 begins again, and neither old nor new lineage accepts it."""
    site.renew()
    site.node.boot(site.node.last_boot)
    site.ima.measure(CAT, b"cat")
    with pytest.raises(VerificationError) as refused:
        site.renew()
    assert "ima.replay-mismatch" in {finding.id for finding in refused.value.findings}
    assert any("a new lineage begins" in line for line in site.said)


@pytest.mark.swtpm
def test_a_reboot_begins_another_lineage_with_another_list(site: Site) -> None:
    """The agent sees the reset, and begins with the new boot's list from its first entry."""
    site.renew()
    site.node.boot(site.node.last_boot)
    site.ima = site.node.start_ima()
    lease = site.renew()
    assert lease.tokens[0].claims.lineage.seq == 0
    (evidence,) = site.last()
    assert evidence.logs["ima"] == site.ima.data


@pytest.mark.swtpm
def test_the_command_takes_a_list_from_a_file(
    simulated_node: NodeOnSwtpm, looking: VerifierProcess, tmp_path: Path
) -> None:
    """``bootlease node run`` presents it, and collects it with a quote."""
    ima = simulated_node.start_ima()
    ima.measure(BASH, b"bash")
    files = {"log": simulated_node.event_log, "ima": ima.data}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    bundle = tmp_path / "join.json"
    run_cli("verifier", "bundle", "--data", str(looking.folder), "-o", str(bundle))
    tpm = ("--tcti", simulated_node.tcti, "--log", str(tmp_path / "log"))
    listed = ("--ima-list", str(tmp_path / "ima"), "--state", str(tmp_path / "state"))
    wish = ("--scope", "tool:search", "--audience", AUDIENCE, "--ek-algorithm", "ecc-p256")
    simulated_node.device.close()
    run_cli("node", "run", "--once", "--bundle", str(bundle), *tpm, *listed, *wish)
    quote = ("--nonce", "00", "--pcrs", "sha256:0-10", "-o", str(tmp_path / "collected"))
    run_cli("node", "collect", *tpm, *listed, *quote)
    assert (tmp_path / "collected" / "ima.bin").read_bytes() == ima.data


# -- without a TPM: what is kept, audited and let go


def live(verifier: RecordedVerifier) -> None:
    """Let two nodes load files: one is refused, begins again, and its rules change."""
    good, bad = verifier.enrol(), verifier.enrol()
    lists = [node.device.start_ima() for node in (good, bad)]
    for node in (good, bad):
        assert verifier.decide(node)
    for ima in lists:
        ima.measure(CAT, b"cat")
    lists[1].measure(MINER, b"miner")
    assert verifier.decide(good)
    assert not verifier.decide(bad)
    verifier.clock.time += 40
    assert verifier.decide(good)
    verifier.register(files_reference({**FILES, MINER: b"miner"}, version="2"))
    verifier.lapse(bad)
    assert verifier.decide(bad)


def audited(folder: Path, database: Path | None = None) -> list[str]:
    """Return what an audit finds."""
    keys = load_keys(folder, ISSUER)
    tokens = KeySet((VerificationKey(keys.token.public),)).to_cose()
    ground = Ground(database or folder / DATABASE, keys.ledger.key, tokens=tokens, live=True)
    outcome = check_ledger(ground, 1, lambda _done, _total: None)
    return [
        f"{each.where}: {each.finding.id}"
        for each in outcome.differences
        if each.finding.effect is Effect.REFUSES
    ]


def test_a_ledger_of_ima_decisions_is_found_right(tmp_path: Path, local_ca: LocalCA) -> None:
    """Grants and refusals, renewals and new lineages are made again to the byte."""
    folder = tmp_path / "verifier"
    files = (files_reference(FILES),)
    with recorded_verifier(folder, local_ca, policy=IMA_POLICY, references=files) as verifier:
        live(verifier)
    assert audited(folder) == []


@pytest.mark.parametrize("column", ["data", "digest"])
def test_a_changed_list_is_found(tmp_path: Path, local_ca: LocalCA, column: str) -> None:
    """Whoever alters entries, or the state that a node goes on from, is found out."""
    folder = tmp_path / "verifier"
    files = (files_reference(FILES),)
    with recorded_verifier(folder, local_ca, policy=IMA_POLICY, references=files) as verifier:
        live(verifier)
    with closing(sqlite3.connect(folder / DATABASE)) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
            db.execute(f"DROP TRIGGER {name}")
        smallest = "SELECT digest FROM blobs ORDER BY size LIMIT 1"
        new = {"data": "zeroblob(30)", "digest": "zeroblob(32)"}[column]
        db.execute(f"UPDATE blobs SET {column} = {new} WHERE digest = ({smallest})")  # noqa: S608 - names of the schema
        db.commit()
    assert audited(folder)


def test_the_state_that_a_node_goes_on_from_is_audited(tmp_path: Path, local_ca: LocalCA) -> None:
    """A row that says of more entries than were judged that they were accepted is found."""
    folder = tmp_path / "verifier"
    files = (files_reference(FILES),)
    with recorded_verifier(folder, local_ca, policy=IMA_POLICY, references=files) as verifier:
        live(verifier)
    with closing(sqlite3.connect(folder / DATABASE)) as db:
        node, prior = db.execute("SELECT node, prior FROM nodes WHERE prior NOT NULL").fetchone()
        state = Prior.parse(prior)
        assert state.ima is not None
        assert state.ima.state.entries in {2, 3}
        at = prior.rindex(state.ima.rules)
        db.execute(
            "UPDATE nodes SET prior = ? WHERE node = ?",
            (prior[:at] + bytes(32) + prior[at + 32 :], node),
        )
        db.commit()
    assert [each.partition(": ")[2] for each in audited(folder)] == ["stored.node.differs"]


def test_lists_are_kept_as_long_as_their_evidence(tmp_path: Path, local_ca: LocalCA) -> None:
    """Retention lets go of what only old decisions need, and of nothing that a proof needs."""
    folder = tmp_path / "verifier"
    files = (files_reference(FILES),)
    with recorded_verifier(folder, local_ca, policy=IMA_POLICY, references=files) as verifier:
        node = verifier.enrol()
        ima = node.device.start_ima()
        assert verifier.decide(node)
        verifier.lapse(node)
        verifier.clock.time += DAY
        ima.measure(BASH, b"bash")
        assert verifier.decide(node)
        ima.measure(CAT, b"cat")
        assert verifier.decide(node)
        assert blobs(folder) == 4
        verifier.prune(before=verifier.clock.time - 10)
        assert blobs(folder) == 3
        lease = node.leases[-1]
    assert audited(folder) == []
    keys = load_keys(folder, ISSUER)
    with audit_reader(folder / DATABASE) as reader:
        proof = lease_proof(reader, lease.lease_id)
    assert proof is not None
    tokens = KeySet((VerificationKey(keys.token.public),))
    report = verify_proof(parse_proof(proof.encode()), ProofTrust(keys.ledger.key, tokens))
    assert report.decisions == 2


def blobs(folder: Path) -> int:
    """Return how many logs and lists are kept."""
    with closing(sqlite3.connect(folder / DATABASE)) as db:
        count: int = db.execute("SELECT count(*) FROM blobs").fetchone()[0]
    return count


def test_an_export_carries_the_lists(tmp_path: Path, local_ca: LocalCA) -> None:
    """Exported and imported, every decision can still be made again."""
    folder = tmp_path / "verifier"
    files = (files_reference(FILES),)
    with recorded_verifier(folder, local_ca, policy=IMA_POLICY, references=files) as verifier:
        live(verifier)
    exported, imported = tmp_path / "export", tmp_path / "imported"
    run_cli("ledger", "export", "--data", str(folder), "--output", str(exported))
    run_cli("ledger", "import", str(exported), "--data", str(imported), "--issuer", ISSUER)
    keys = load_keys(folder, ISSUER)
    tokens = KeySet((VerificationKey(keys.token.public),)).to_cose()
    ground = Ground(imported / DATABASE, keys.ledger.key, tokens=tokens, live=False)
    outcome = check_ledger(ground, 1, lambda _done, _total: None)
    assert [each for each in outcome.differences if each.finding.effect is Effect.REFUSES] == []
