"""Section A with real TPMs, in software: what the owner of a machine can make his TPM sign."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from bootlease.model import HashAlg
from bootlease.node.tpm.key_kinds import EKAlgorithm
from bootlease.ports import QuotedState
from bootlease.testing.attesting_client import AttestingClient
from bootlease.testing.boot import SimulatedBoot, simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.manufacture import manufacture
from bootlease.testing.node_on_swtpm import ALL_BANKS
from bootlease.testing.scene import POLICY, default_lease
from bootlease.testing.swtpm import SoftwareTPMState
from bootlease.testing.verifier_process import verifier_process
from bootlease.tpm import PCRSelection, TPMSQuoteInfo, parse_attest
from tests.attacks.machines import Machine, Statement, machine
from tests.attacks.verdict import TPM_REFUSES, Verdict, attack

pytestmark = pytest.mark.swtpm

QUOTE_BODY: Final = TPMSQuoteInfo((PCRSelection(HashAlg.SHA256, (0, 7)),), bytes(32)).marshal()
BAD_COMMAND_LINE: Final = "root=/dev/vda1 ro init=/bin/sh"


@pytest.fixture(scope="module")
def booted() -> SimulatedBoot:
    """The good boot, measured into every bank of a TPM."""
    return simulate_boot(grub_description(), ALL_BANKS)


@pytest.fixture(scope="module")
def good(
    software_tpm_state: SoftwareTPMState,
    tmp_path_factory: pytest.TempPathFactory,
    booted: SimulatedBoot,
) -> Iterator[Machine]:
    """A machine that booted well; each test takes off what it put on."""
    folder = tmp_path_factory.mktemp("good") / "state"
    with machine(software_tpm_state.clone(folder), booted) as running:
        yield running


@pytest.fixture(scope="module")
def other(
    local_ca: LocalCA, tmp_path_factory: pytest.TempPathFactory, booted: SimulatedBoot
) -> Iterator[Machine]:
    """Another machine, with a TPM of its own, that booted as well."""
    state = manufacture(
        tmp_path_factory.mktemp("other") / "state",
        ca=local_ca,
        banks=ALL_BANKS,
        ek_algorithms=[EKAlgorithm.ECC_P256],
    )
    with machine(state, booted) as running:
        yield running


@pytest.fixture(scope="module")
def client(http: httpx2.Client, good: Machine) -> AttestingClient:
    """The good machine's client; enrolled once, for a verifier bounds how often one may."""
    device: Any = good
    enrolled = AttestingClient(http, device, (default_lease(),))
    enrolled.enrol()
    return enrolled


@pytest.fixture(scope="module")
def proxy(http: httpx2.Client, other: Machine) -> AttestingClient:
    """The other machine's client."""
    device: Any = other
    enrolled = AttestingClient(http, device, (default_lease(),))
    enrolled.enrol()
    return enrolled


@pytest.fixture(autouse=True)
def honest_beginning(client: AttestingClient, good: Machine) -> Iterator[None]:
    """Each test begins a lineage with an honest machine.

    A challenge that no verified evidence has answered stands, and is answered by the next test.
    """
    client.head = None
    client.leases = (default_lease(),)
    yield
    good.instead = None


def refused_for_good(client: AttestingClient) -> AttestingClient:
    """Return the client, which has to ask for a challenge again: a decision spent this one."""
    client.challenge = None
    return client


def forged(attest: bytes, **changes: Any) -> bytes:
    """Return TPMS_ATTEST with some members changed."""
    return replace(parse_attest(attest), **changes).marshal()


@attack("A1", "quote.magic.wrong", TPM_REFUSES)
def test_a_restricted_key_signs_anything_but_what_begins_as_its_own(
    good: Machine, client: AttestingClient, verdict: Verdict
) -> None:
    """The TPM signs a quote made up in memory, as long as TPM_GENERATED is missing from it."""

    def sign_made_up(_: bytes, state: QuotedState) -> Statement:
        with verdict.refuses(TPM_REFUSES):
            good.sign_with_ak(state.attest)
        made_up = forged(state.attest, magic=0xFF544346)
        return made_up, good.sign_with_ak(made_up)

    good.instead = sign_made_up
    verdict.refused(client.present(client.attest()), "quote.magic.wrong")


def creation(tpm: Machine, data: bytes) -> Statement:
    """What the TPM says of a key that it just made."""
    made = tpm.attest_creation(data)
    return made.attest, made.signature


@attack("A26", "quote.type.wrong")
@pytest.mark.parametrize(
    "statement",
    [
        Machine.attest_time,
        lambda tpm, data: tpm.attest_nv(data, QUOTE_BODY),
        Machine.attest_session,
        creation,
    ],
    ids=["time", "nv", "session-audit", "creation"],
)
def test_what_else_the_key_attests_is_no_quote(
    good: Machine,
    client: AttestingClient,
    verdict: Verdict,
    statement: Callable[[Machine, bytes], Statement],
) -> None:
    """Genuine statements with the demanded qualifying data, one of them over a made-up quote."""
    good.instead = lambda data, _: statement(good, data)
    verdict.refused(client.present(client.attest()))


@pytest.fixture
def of_two_banks(local_ca: LocalCA, reference_file: bytes, tmp_path: Path) -> Iterator[str]:
    """URL of a verifier whose policy demands two banks."""
    with verifier_process(
        tmp_path,
        policy=POLICY.replace('banks = ["sha256"]', 'banks = ["sha256", "sha384"]'),
        roots=local_ca.roots_pem,
        references=[reference_file],
    ) as process:
        yield process.url


@attack("A6", "eventlog.pcr8.replay-mismatch")
def test_a_bank_filled_by_hand_does_not_pass_where_policy_demands_another_too(
    good: Machine, of_two_banks: str, verdict: Verdict, booted: SimulatedBoot
) -> None:
    """The firmware left SHA-256 idle; the attacker extended a whole good log into it."""
    device: Any = good
    bad = grub_description().with_command_line(BAD_COMMAND_LINE)
    good.boot(simulate_boot(bad, (HashAlg.SHA1, HashAlg.SHA384)))
    simulate_boot(grub_description(), (HashAlg.SHA256,)).extend(good)
    with httpx2.Client(base_url=of_two_banks, trust_env=False) as http:
        client = AttestingClient(http, device, (default_lease(),))
        client.enrol()
        verdict.refused(client.present(client.attest(log=booted.event_log)))
        good.boot(booted)
        verdict.accepted(refused_for_good(client).present(client.attest()))


@attack("A13", "challenge.node.mismatch", "quote.signature.invalid")
def test_a_challenge_for_one_tpm_serves_no_other(
    client: AttestingClient, proxy: AttestingClient, verdict: Verdict
) -> None:
    """Two TPMs that booted alike: the nonce of one, quoted by the other."""
    assert client.node != proxy.node
    evidence = proxy.attest(client.challenge or client.ask())
    verdict.refused(proxy.present(evidence), "challenge.node.mismatch")
    verdict.refused(proxy.present(evidence, client.node), "quote.signature.invalid")


@attack(
    "A25",
    "quote.signature.invalid",
    "request.confirmation-key.mismatch",
    "certify.signature.invalid",
)
def test_a_machine_that_booted_badly_borrows_no_quote(
    other: Machine, client: AttestingClient, proxy: AttestingClient, verdict: Verdict
) -> None:
    """It passes its challenge on to a good machine, and puts its own key into the answer."""
    relayed = client.attest(proxy.ask())
    verdict.refused(proxy.present(relayed), "quote.signature.invalid")
    # In the victim's name, where the quote counts, the key that it names is the victim's.
    relayed = client.attest()
    key = other.bound_key().certification
    swapped = replace(relayed, leases=(replace(relayed.leases[0], confirmation=key),))
    verdict.refused(proxy.present(swapped, client.node), "request.confirmation-key.mismatch")
    # Nor does a key count as the victim TPM's that another TPM certified.
    client.leases = (replace(default_lease(), confirmation=key),)
    verdict.refused(client.present(client.attest()), "certify.signature.invalid")


@attack("A22", "clock.unsafe")
def test_a_power_cut_leaves_a_clock_that_nobody_can_trust(
    good: Machine, client: AttestingClient, verdict: Verdict, booted: SimulatedBoot
) -> None:
    """Until the clock has passed its last recorded value."""
    good.tpm.reboot(orderly=False)
    booted.extend(good)
    verdict.refused(client.present(client.attest()))
    refused_for_good(client)
    good.boot(booted)
    good.pass_time()


@attack("A23", "clock.reset-count.rollback")
def test_a_tpm_that_was_put_back_is_refused(
    good: Machine,
    client: AttestingClient,
    verdict: Verdict,
    booted: SimulatedBoot,
    tmp_path: Path,
) -> None:
    """Its state is copied, it boots on, and the copy is restored."""
    kept = good.tpm.snapshot(tmp_path / "kept")
    for _ in range(3):
        good.boot(booted)
    client.renew()
    good.tpm.restore(kept)
    booted.extend(good)
    client.head = None
    verdict.refused(client.present(client.attest()))
    refused_for_good(client)
    for _ in range(4):
        good.boot(booted)
    good.pass_time()


@attack("A23", "lineage.forked", "lineage.unknown-head")
def test_two_copies_of_one_machine_end_their_lineage(
    good: Machine, client: AttestingClient, verdict: Verdict, tmp_path: Path
) -> None:
    """Of two that renew the same lease, one is refused, and what both held is over."""
    client.renew()
    kept = good.tpm.snapshot(tmp_path / "twin", live=True)
    with machine(kept) as twin:
        assert good.ak_handle is not None
        twin.load_ak(good.ak_handle)
        twin.event_log = good.event_log
        device: Any = twin
        copied = replace(client, device=device, challenge=None, answers=[])
        challenge = copied.ask()
        client.renew()
        verdict.refused(copied.present(copied.attest(challenge)), "lineage.forked")
    verdict.refused(client.present(client.attest()), "lineage.unknown-head")
    refused_for_good(client)
