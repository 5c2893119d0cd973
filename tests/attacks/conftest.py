"""A verifier, nodes that attack it, and a check that tests show what they say they show."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

import httpx2
import pytest

from bootlease.node.tpm.key_kinds import AKAlgorithm
from bootlease.reference import serialise_reference
from bootlease.testing.attesting_client import AttestingClient
from bootlease.testing.boot import SimulatedBoot, simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.golden import golden_reference
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import POLICY, Scene, default_lease
from bootlease.testing.verifier_process import VerifierProcess, verifier_process
from tests.attacks.forging import ForgingNode
from tests.attacks.verdict import Verdict

NewAttacker = Callable[..., AttestingClient]


_passed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember whether the test itself passed."""
    report = yield
    if call.when == "call":
        item.stash[_passed] = call.excinfo is None
    return report


@pytest.fixture(autouse=True)
def verdict(request: pytest.FixtureRequest) -> Iterator[Verdict]:
    """Collects what refused; ends a test that passed without showing what its markers say."""
    seen = Verdict()
    yield seen
    if not request.node.stash.get(_passed, False):
        return
    for marker in request.node.iter_markers("attack"):
        row, *findings = marker.args
        if marker.kwargs.get("benign"):
            assert seen.acceptances, f"{row} is marked as benign, and nothing was accepted"
            assert set(findings) <= seen.noted, f"{row} did not leave the notes it names"
        else:
            assert findings, f"{row} is marked as refused, but by nothing"
            missing = set(findings) - seen.refused_by
            assert not missing, f"{row} was refused by {sorted(seen.refused_by)}, not by {missing}"


@pytest.fixture(scope="session")
def good_boot() -> SimulatedBoot:
    """A boot that the reference set describes."""
    return simulate_boot(grub_description())


@pytest.fixture(scope="session")
def reference_file(good_boot: SimulatedBoot) -> bytes:
    """The reference set learned from it."""
    return serialise_reference(golden_reference(good_boot))


@pytest.fixture(scope="session")
def running(
    tmp_path_factory: pytest.TempPathFactory, local_ca: LocalCA, reference_file: bytes
) -> Iterator[VerifierProcess]:
    """The verifier that is attacked; one for all, each attack brings a node of its own."""
    with verifier_process(
        tmp_path_factory.mktemp("attacked"),
        policy=POLICY,
        roots=local_ca.roots_pem,
        references=[reference_file],
    ) as process:
        yield process


@pytest.fixture(scope="session")
def http(running: VerifierProcess) -> Iterator[httpx2.Client]:
    """A connection to it."""
    with httpx2.Client(base_url=running.url, timeout=20, trust_env=False) as client:
        yield client


@pytest.fixture
def new_attacker(http: httpx2.Client, local_ca: LocalCA, good_boot: SimulatedBoot) -> NewAttacker:
    """Makes nodes that have booted well and can forge; enrolled unless told otherwise."""

    def make(
        *,
        enrolled: bool = True,
        boot: SimulatedBoot = good_boot,
        ak_algorithm: AKAlgorithm = AKAlgorithm.ECC_P256,
    ) -> AttestingClient:
        node = ForgingNode(local_ca, boot=boot)
        if ak_algorithm is AKAlgorithm.RSA_2048:
            node.use_rsa_ak()
        client = AttestingClient(http, node, (default_lease(),))
        if enrolled:
            client.enrol()
        return client

    return make


@pytest.fixture
def scene(local_ca: LocalCA) -> Scene:
    """A node before a verifier without a network, under a sound policy."""
    return Scene.create(local_ca)
