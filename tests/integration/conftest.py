"""A verifier process, and nodes that talk to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from bootlease.reference import serialise_reference
from bootlease.testing.attesting_client import AttestingClient
from bootlease.testing.boot import SimulatedBoot, simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.golden import golden_reference
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import POLICY, default_lease
from bootlease.testing.simulated_node import SimulatedNode
from bootlease.testing.verifier_process import VerifierProcess, verifier_process

NewClient = Callable[..., AttestingClient]


@pytest.fixture(scope="session")
def good_boot() -> SimulatedBoot:
    """A boot that the reference set describes."""
    return simulate_boot(grub_description())


@pytest.fixture(scope="session")
def reference_file(good_boot: SimulatedBoot) -> bytes:
    """The reference set learned from it."""
    return serialise_reference(golden_reference(good_boot, match_events=(4,)))


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, local_ca: LocalCA, reference_file: bytes
) -> Iterator[VerifierProcess]:
    """A verifier that the tests of a module share."""
    folder = tmp_path_factory.mktemp("verifier")
    with verifier_process(
        folder, policy=POLICY, roots=local_ca.roots_pem, references=[reference_file]
    ) as process:
        yield process


@pytest.fixture
def http(running: VerifierProcess) -> Iterator[httpx2.Client]:
    """A connection to the running verifier."""
    with httpx2.Client(base_url=running.url, timeout=20, trust_env=False) as client:
        yield client


@pytest.fixture
def new_client(http: httpx2.Client, local_ca: LocalCA, good_boot: SimulatedBoot) -> NewClient:
    """Makes nodes that have booted well; enrolled unless told otherwise."""

    def make(*, enrolled: bool = True, boot: SimulatedBoot = good_boot) -> AttestingClient:
        client = AttestingClient(http, SimulatedNode(local_ca, boot=boot), (default_lease(),))
        if enrolled:
            client.enrol()
        return client

    return make


@pytest.fixture
def private_folder(tmp_path: Path) -> Path:
    """A folder for a verifier of the test's own."""
    folder = tmp_path / "private"
    folder.mkdir()
    return folder
