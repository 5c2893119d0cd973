"""Section E: lists of what a running system loaded, and what they hide or claim."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bootlease.appraisal import AttestationResult
from bootlease.evidence import log_digest
from bootlease.ima import IMA_PCR, IMAState, attest_list
from bootlease.lineage import Prior
from bootlease.model import HashAlg
from bootlease.reference.imafile import parse_ima_reference, serialise_ima_reference
from bootlease.reference.imaset import (
    IMAReferenceSet,
    Scope,
    ScopeKind,
    SignerRule,
)
from bootlease.testing.boot import simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.ima_list import (
    SimulatedIMA,
    boot_aggregate,
    field,
    file_fields,
    list_entry,
)
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.node_on_swtpm import ALL_BANKS
from bootlease.testing.scene import IMA_POLICY, Scene, files_reference
from bootlease.testing.swtpm import SoftwareTPMState
from bootlease.token import Tier
from bootlease.tpm import accept_attestation_key, parse_public
from tests.attacks.machines import Machine, machine
from tests.attacks.verdict import MALFORMED, Verdict, attack, benign

BASH: Final = "/usr/bin/bash"
MINER: Final = "/opt/miner"
FILES: Final = {BASH: b"bash", "/usr/bin/cat": b"cat"}
SHA256: Final = HashAlg.SHA256
APPROVED_DURING_BOOT: Final = 3


@pytest.fixture
def running(local_ca: LocalCA) -> Scene:
    """A node whose kernel has measured one good file since its boot."""
    scene = Scene.create(local_ca, policy=IMA_POLICY)
    scene.ima_references = (files_reference(FILES),)
    scene.node.start_ima().measure(BASH, b"bash")
    return scene


def ima_of(scene: Scene) -> SimulatedIMA:
    """Return the node's list."""
    assert scene.node.ima is not None
    return scene.node.ima


def shown(scene: Scene, data: bytes) -> AttestationResult:
    """Let the node attest with another list than its kernel's."""
    list_of_kernel = ima_of(scene).data
    ima_of(scene).data = data
    try:
        return scene.decide()
    finally:
        ima_of(scene).data = list_of_kernel


def keep(scene: Scene, result: AttestationResult) -> None:
    """Continue from a grant."""
    assert result.leases
    scene.prior = Prior(
        result.lineage.root,
        b"\1" * 32,
        result.lineage.sequence,
        result.clock_info,
        result.expires_at,
        {"tcg": log_digest(scene.node.event_log)},
        result.policy.epoch,
        result.lineage.began_at,
        ima=result.ima,
    )


def renew(scene: Scene) -> AttestationResult:
    """Renew the lease that was kept."""
    assert scene.prior is not None
    return scene.decide(previous=scene.prior.head)


# -- E1 to E3: hashes


@attack("E1", "ima.replay-mismatch")
def test_an_entry_that_was_edited_does_not_lead_to_the_quote(
    running: Scene, verdict: Verdict
) -> None:
    """The list shows another path or digest than was measured, under the hash of the old one."""
    ima_of(running).measure(MINER, b"miner")
    data = ima_of(running).data
    harmless = b"/usr/bin/cat"[: len(MINER)].ljust(len(MINER), b"_")
    verdict.refused(shown(running, data.replace(MINER.encode(), harmless)))
    digests = SHA256.digest(b"miner"), SHA256.digest(b"cat")
    verdict.refused(shown(running, data.replace(*digests)))


@attack("E1", "ima.template-hash-mismatch")
def test_the_hash_that_the_list_gives_is_that_of_its_data(running: Scene, verdict: Verdict) -> None:
    """Readers of the list go by its SHA-1; the kernel's own is never wrong."""
    data = ima_of(running).data
    first = struct.pack("<I", IMA_PCR) + data[4:24]
    assert data.startswith(first)
    verdict.refused(shown(running, data[:4] + b"\7" * 20 + data[24:]))


@attack("E2", "ima.violation")
def test_a_violation_is_refused(running: Scene, verdict: Verdict) -> None:
    """A file that was written while it was in use: nobody knows what was loaded."""
    ima_of(running).violate(BASH)
    verdict.refused(running.decide())


@attack("E2", "ima.replay-mismatch")
def test_a_file_cannot_be_shown_as_a_violation_nor_a_violation_as_a_file(
    running: Scene, verdict: Verdict
) -> None:
    """A violation extends ones: policy may let violations pass, so the reverse counts as well."""
    ima_of(running).measure(MINER, b"miner")
    fields = file_fields(MINER, SHA256.digest(b"miner"))
    entry, zeros = (list_entry("ima-ng", fields, violation=each) for each in (False, True))
    data = ima_of(running).data
    assert entry in data
    verdict.refused(shown(running, data.replace(entry, zeros)))


@attack("E3", "ima.sha1-padding")
@benign("E3")
def test_a_kernel_that_fills_sha1_up_is_told_from_one_that_hashes_per_bank(
    running: Scene, verdict: Verdict
) -> None:
    """Whoever can collide SHA-1 measures one file and shows another: refused unless asked for."""
    entry = file_fields(BASH, SHA256.digest(b"bash"))
    aggregate = boot_aggregate(running.node.read_pcrs({SHA256: range(10)})[SHA256], SHA256)
    start = file_fields("boot_aggregate", aggregate)
    old = Scene.create(LocalCA.create(), policy=IMA_POLICY)
    old.ima_references = running.ima_references
    old.node.ima = SimulatedIMA(old.node, ())
    for data in (start, entry):
        ima_of(old).add("ima-ng", data)
        old.node.pcr_extend(IMA_PCR, {SHA256: HashAlg.SHA1.digest(data).ljust(32, b"\0")})
    verdict.refused(old.decide())
    quoted = old.node.read_pcrs({SHA256: [IMA_PCR]})[SHA256][IMA_PCR]
    attested = attest_list(
        IMAState.START, ima_of(old).data, {SHA256: quoted}, unsafe_sha1_padding=True
    )
    assert attested.state.entries == 2
    verdict.noticed(())


# -- E4, E5: which boot, and how much of it


@attack("E4", "ima.boot-aggregate.mismatch")
def test_a_list_of_another_boot_is_refused(running: Scene, verdict: Verdict) -> None:
    """Its first entry is the hash of other PCRs, though it leads to the quoted PCR 10."""
    running.node.reboot()
    simulate_boot(grub_description()).extend(running.node)
    running.node.ima = SimulatedIMA(running.node, (SHA256,))
    others = {pcr: bytes([pcr]) * 32 for pcr in range(10)}
    running.node.ima.start(others)
    verdict.refused(running.decide())


@attack("E4", "ima.boot-aggregate.missing")
def test_a_list_without_its_beginning_is_refused(running: Scene, verdict: Verdict) -> None:
    """Nothing ties it to this boot."""
    running.node.reboot()
    simulate_boot(grub_description()).extend(running.node)
    running.node.ima = SimulatedIMA(running.node, (SHA256,))
    running.node.ima.measure(BASH, b"bash")
    verdict.refused(running.decide())


@attack("E4", "ima.boot-aggregate.mismatch")
def test_a_kernel_started_by_kexec_is_of_this_boot(running: Scene, verdict: Verdict) -> None:
    """A later aggregate is compared as well."""
    ima_of(running).start({pcr: bytes(32) for pcr in range(10)})
    verdict.refused(running.decide())


@benign("E4", "ima.boot-aggregate.repeated")
def test_a_kernel_started_by_kexec_is_noted(running: Scene, verdict: Verdict) -> None:
    """The same aggregate again: the list goes on where the old kernel's ended."""
    ima_of(running).start(running.node.read_pcrs({SHA256: range(10)})[SHA256])
    verdict.accepted(running.decide())


@benign("E5")
def test_a_list_may_run_ahead_of_the_quote(running: Scene, verdict: Verdict) -> None:
    """The kernel goes on measuring; what no quote covers yet counts for nothing."""
    ima_of(running).add("ima-ng", file_fields(MINER, SHA256.digest(b"miner")), extend=False)
    result = running.decide()
    verdict.accepted(result)
    assert result.ima is not None
    assert result.ima.state.entries == 2


@attack("E5", "ima.replay-mismatch")
def test_a_list_may_not_be_held_back(running: Scene, verdict: Verdict) -> None:
    """The quote is ahead of the list: its tail was cut off, at an entry or within one."""
    ima_of(running).measure(MINER, b"miner")
    whole = ima_of(running).data
    verdict.refused(shown(running, running_prefix(running, 2)), "ima.replay-mismatch")
    verdict.refused(shown(running, whole[:-3]))


def running_prefix(scene: Scene, entries: int) -> bytes:
    """Return the first entries of a node's list."""
    ima = ima_of(scene)
    return ima.data[: len(ima.data) - len(ima.since(entries))]


@attack("E5", "ima.file.unlisted")
def test_what_ran_ahead_is_judged_by_the_next_quote(running: Scene, verdict: Verdict) -> None:
    """A renewal brings every entry since the last that was accepted."""
    keep(running, running.decide())
    ima_of(running).add("ima-ng", file_fields(MINER, SHA256.digest(b"miner")), extend=False)
    keep(running, renew(running))
    ima_of(running).catch_up()
    verdict.refused(renew(running))


@attack("E5", "ima.list.missing")
def test_a_list_may_not_be_left_out(running: Scene, verdict: Verdict) -> None:
    """Where policy looks at IMA."""
    running.node.ima = None
    verdict.refused(running.decide())


# -- E6 to E8: names, and what is not judged


@attack("E6", "ima.file.unlisted")
@pytest.mark.parametrize(
    "path",
    [
        b"/usr/bin/bash ",
        b"/usr/bin/bash\n",
        b"/usr/bin/bash\\x0a",
        b"/usr/bin//bash",
        b"/usr/bin/../bin/bash",
        b"/usr/bin/./bash",
        b"/USR/BIN/BASH",
        b"usr/bin/bash",
        b"/container/usr/bin/bash",
        b"/usr/bin/bash (deleted)",
        b"/memfd:bash (deleted)",
        b"/usr/bin/b\xc3\xa1sh",
        b"/usr/bin/\xff\xfe",
        b"boot_aggregate",
    ],
    ids=repr,
)
def test_a_path_is_compared_byte_for_byte(running: Scene, verdict: Verdict, path: bytes) -> None:
    """Another spelling is another file, and is shown so that it cannot pass for the listed one."""
    ima_of(running).measure(path, b"miner")
    result = running.decide()
    verdict.refused(result)
    assert all(finding.message.isprintable() for finding in result.findings)


@attack("E6", "ima.file.digest-mismatch")
def test_a_listed_path_with_other_content_is_refused(running: Scene, verdict: Verdict) -> None:
    """In a mount namespace anything may be called /usr/bin/bash."""
    ima_of(running).measure(BASH, b"miner")
    verdict.refused(running.decide())


@attack("E7", "ima.nothing-measured")
def test_a_kernel_that_measures_nothing_is_not_a_good_one(running: Scene, verdict: Verdict) -> None:
    """PCR 10 is where it was at the reset: IMA is off, or its policy is empty."""
    running.node.reboot()
    simulate_boot(grub_description()).extend(running.node)
    running.node.ima = SimulatedIMA(running.node, (SHA256,))
    aggregate = file_fields("boot_aggregate", bytes(32))
    running.node.ima.add("ima-ng", aggregate, extend=False)
    verdict.refused(running.decide())


@benign("E7")
def test_what_the_kernel_was_not_told_to_measure_is_not_claimed(
    running: Scene, verdict: Verdict
) -> None:
    """A token says that the boot was approved, never that only approved files ran."""
    result = running.decide()
    verdict.accepted(result)
    assert result.vector.executables == APPROVED_DURING_BOOT
    assert result.tier is Tier.AFFIRMING


@attack("E8", MALFORMED)
@pytest.mark.parametrize("scope", ["/", "//", "/usr/../", "usr/", "/usr", "/*/"])
def test_an_exclusion_of_everything_is_none(verdict: Verdict, scope: str) -> None:
    """A tree is named whole, from its root, and is not all there is; there are no patterns."""
    excluded = Scope(ScopeKind.BELOW, b"/usr/share/")
    good = serialise_ima_reference(files_reference(FILES, unsafe_exclude=(excluded,)))
    assert b"/usr/share/" in good
    parse_ima_reference(good)
    if scope == "/*/":
        # Well formed, and a directory of that very name.
        parsed = parse_ima_reference(good.replace(b"/usr/share/", scope.encode()))
        assert not parsed.unsafe_exclude[0].covers(b"/usr/bin/x")
        scope = "/"
    with verdict.refuses():
        parse_ima_reference(good.replace(b"/usr/share/", scope.encode()))


@attack("E8", "ima.file.digest-mismatch", "ima.file.unlisted", "ima.violation")
def test_an_exclusion_covers_no_listed_file_and_no_violation(
    running: Scene, verdict: Verdict
) -> None:
    """Nor what only seems to lie below it; and what it covers is told."""
    excluded = Scope(ScopeKind.BELOW, b"/usr/bin/")
    running.ima_references = (files_reference(FILES, unsafe_exclude=(excluded,)),)
    ima_of(running).measure("/usr/bin/anything", b"x")
    result = running.decide()
    assert result.leases
    assert "ima.file.excluded" in {finding.id for finding in result.findings}
    ima_of(running).measure(BASH, b"miner")
    verdict.refused(running.decide(), "ima.file.digest-mismatch")
    ima_of(running).measure("/usr/bin/../../opt/miner", b"miner")
    verdict.refused(running.decide(), "ima.file.unlisted")
    ima_of(running).violate("/usr/bin/anything")
    verdict.refused(running.decide(), "ima.violation")


# -- E9: signatures


VENDOR: Final = ec.generate_private_key(ec.SECP256R1())
STRANGER: Final = ec.generate_private_key(ec.SECP256R1())
SIGNED_POLICY: Final = IMA_POLICY.replace('"ignored"', '"sufficient"')


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a public key, DER."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_id(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the four bytes by which a signature names its key."""
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest[-4:]


def signature(
    key: ec.EllipticCurvePrivateKey, content: bytes, *, named: bytes = b"", alg: int = 4
) -> bytes:
    """Return a security.ima signature of version 2 over SHA-256."""
    made = key.sign(content, ec.ECDSA(hashes.SHA256()))
    return struct.pack(">BBB4sH", 3, 2, alg, named or key_id(key), len(made)) + made


def signed_by_vendor(**changes: Any) -> IMAReferenceSet:
    """Return a set that lets the vendor sign everything below /opt/vendor/."""
    scope = Scope(ScopeKind.BELOW, b"/opt/vendor/")
    return files_reference(
        FILES,
        signers={"vendor": spki(VENDOR)},
        signed=(SignerRule(scope, ("vendor",)),),
        **changes,
    )


@pytest.mark.parametrize(
    ("path", "made"),
    [
        pytest.param(
            "/opt/vendor/x",
            signature(STRANGER, b"x"),
            marks=attack("E9", "ima.signature.unknown-key"),
        ),
        pytest.param(
            "/opt/vendor/x",
            signature(STRANGER, b"x", named=key_id(VENDOR)),
            marks=attack("E9", "ima.signature.invalid"),
        ),
        pytest.param(
            "/opt/vendor/x",
            signature(VENDOR, b"another file"),
            marks=attack("E9", "ima.signature.invalid"),
        ),
        pytest.param("/opt/vendor/x", b"", marks=attack("E9", "ima.signature.missing")),
        pytest.param("/opt/vendor/x", b"\3\2\4", marks=attack("E9", "ima.signature.malformed")),
        pytest.param(
            "/opt/vendor/x",
            signature(VENDOR, b"x", alg=2),
            marks=attack("E9", "ima.signature.weak-hash"),
        ),
        pytest.param(
            "/opt/other/x", signature(VENDOR, b"x"), marks=attack("E9", "ima.file.unlisted")
        ),
        pytest.param("/opt/vendor/x", signature(VENDOR, b"x"), marks=benign("E9")),
    ],
    ids=["stranger", "same-id", "other-file", "none", "cut", "sha1", "elsewhere", "good"],
)
def test_a_signature_counts_where_it_verifies_under_a_given_key(
    running: Scene, verdict: Verdict, path: str, made: bytes
) -> None:
    """Four bytes of key id choose which key to try and prove nothing."""
    running.use_policy(SIGNED_POLICY)
    running.ima_references = (signed_by_vendor(),)
    ima_of(running).measure(path, b"x", signature=made)
    result = running.decide()
    if result.leases:
        verdict.accepted(result)
    else:
        verdict.refused(result)


@attack("E9", "ima.buffer.unlisted", "ima.signature.unknown-key")
def test_a_key_that_the_node_added_to_its_keyring_does_not_count(
    running: Scene, verdict: Verdict
) -> None:
    """The kernel measures the key; that it did makes nothing of it."""
    running.use_policy(SIGNED_POLICY)
    running.ima_references = (signed_by_vendor(),)
    added = spki(STRANGER)
    named = file_fields(".ima", SHA256.digest(added)) + field(added)
    ima_of(running).add("ima-buf", named)
    ima_of(running).measure("/opt/vendor/x", b"x", signature=signature(STRANGER, b"x"))
    verdict.refused(running.decide())


# -- E10, E11: templates and algorithms


@pytest.mark.parametrize(
    "template",
    [
        pytest.param("ima", marks=attack("E10", "ima.malformed")),
        pytest.param("ima-sig", marks=attack("E10", "ima.entry.unreadable")),
        pytest.param("ima-buf", marks=attack("E10", "ima.entry.unreadable")),
        pytest.param("ima-modsig", marks=attack("E10", "ima.entry.unreadable")),
        pytest.param("evm-sig", marks=attack("E10", "ima.entry.unreadable")),
        pytest.param("n-ng|d-ng", marks=attack("E10", "ima.entry.unreadable")),
        pytest.param("ima-unknown", marks=attack("E10", "ima.malformed")),
    ],
)
def test_the_name_of_a_template_is_nobodys_word(
    running: Scene, verdict: Verdict, template: str
) -> None:
    """No PCR covers it: under another name the same data must not become something better."""
    fields = file_fields(MINER, SHA256.digest(b"miner"))
    ima_of(running).add("ima-ng", fields)
    true, forged = list_entry("ima-ng", fields), list_entry(template, fields)
    data = ima_of(running).data
    assert true in data
    verdict.refused(shown(running, data.replace(true, forged)))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(
            struct.pack("<I", 0xFFFFFFFF) + b"sha256:\0" + bytes(32),
            marks=attack("E10", "ima.entry.unreadable"),
        ),
        pytest.param(
            field(b"sha256:\0" + bytes(32)) + struct.pack("<I", 0x7FFFFFFF) + b"/x\0",
            marks=attack("E10", "ima.entry.unreadable"),
        ),
        pytest.param(field(b"sha256"), marks=attack("E10", "ima.entry.unreadable")),
        pytest.param(file_fields("/x", bytes(31)), marks=attack("E10", "ima.entry.unreadable")),
        pytest.param(b"", marks=attack("E10", "ima.entry.unreadable")),
    ],
    ids=["digest-overflow", "name-overflow", "no-name", "short-digest", "empty"],
)
def test_fields_that_overflow_refuse(running: Scene, verdict: Verdict, data: bytes) -> None:
    """The kernel really extended them, so replay is no help."""
    ima_of(running).add("ima-ng", data)
    verdict.refused(running.decide())


@pytest.mark.parametrize(
    "tail",
    [
        pytest.param(b"\xff" * 64, marks=attack("E10", "ima.malformed")),
        pytest.param(
            struct.pack("<I20sI", IMA_PCR, b"x" * 20, 0xFFFFFFFF),
            marks=attack("E10", "ima.malformed"),
        ),
        pytest.param(
            list_entry("ima-ng", file_fields("/x", bytes(32)))[:-1],
            marks=attack("E10", "ima.malformed"),
        ),
    ],
    ids=["noise", "name-of-4-gib", "cut"],
)
def test_entries_that_lie_about_their_length_are_malformed(
    running: Scene, verdict: Verdict, tail: bytes
) -> None:
    """Something was measured that the list does not show, and it ends in noise."""
    running.node.pcr_extend(IMA_PCR, {SHA256: b"\1" * 32})
    verdict.refused(shown(running, ima_of(running).data + tail))


@pytest.mark.parametrize(
    ("template", "prefix", "alg"),
    [
        pytest.param(
            "ima-ng", b"sha1:", HashAlg.SHA1, marks=attack("E11", "ima.file.algorithm-mismatch")
        ),
        pytest.param(
            "ima-ng", b"sha512:", HashAlg.SHA512,
            marks=attack("E11", "ima.file.algorithm-mismatch"),
        ),
        pytest.param(
            "ima-ngv2", b"verity:sha256:", SHA256,
            marks=attack("E11", "ima.file.algorithm-mismatch"),
        ),
        pytest.param("ima-ngv2", b"ima:sha256:", SHA256, marks=benign("E11")),
    ],
    ids=["sha1", "sha512", "verity", "same"],
)  # fmt: skip
def test_a_digest_is_compared_with_its_algorithm(
    running: Scene, verdict: Verdict, template: str, prefix: bytes, alg: HashAlg
) -> None:
    """The same bytes, hashed otherwise or over something else, are another digest."""
    digest = field(prefix + b"\0" + alg.digest(b"bash"))
    ima_of(running).add(template, digest + field(BASH.encode() + b"\0"))
    result = running.decide()
    if result.leases:
        verdict.accepted(result)
    else:
        verdict.refused(result)


@attack("E11", MALFORMED)
@pytest.mark.parametrize("label", ["sha1", "md5", "", "verity", "SHA256"])
def test_a_set_lists_no_digest_that_tells_no_files_apart(verdict: Verdict, label: str) -> None:
    """Broken hashes, and digests without their algorithm, are refused where a set is read."""
    good = serialise_ima_reference(files_reference(FILES))
    assert b'"sha256:' in good
    prefix = f'"{label}:'.encode() if label else b'"'
    with verdict.refuses():
        parse_ima_reference(good.replace(b'"sha256:', prefix))


# -- E12: a TPM that was reset under its kernel


@pytest.fixture
def reset(
    local_ca: LocalCA, software_tpm_state: SoftwareTPMState, tmp_path: Path
) -> Iterator[tuple[Scene, Machine]]:
    """A machine with a real TPM whose kernel has measured a file that is not listed."""
    booted = simulate_boot(grub_description(), ALL_BANKS)
    with machine(software_tpm_state.clone(tmp_path / "state"), booted) as tpm:
        scene = Scene.create(local_ca, policy=IMA_POLICY)
        scene.ima_references = (files_reference(FILES),)
        device: Any = tpm
        scene.node = device
        ak = accept_attestation_key(parse_public(tpm.ak_public()))
        scene.key = ak
        scene.enrolled_as(ak_public=tpm.ak_public(), ak_name=ak.name)
        device.ima = SimulatedIMA(tpm, ALL_BANKS)
        device.ima.start(tpm.read_pcrs({SHA256: range(10)})[SHA256])
        yield scene, tpm


@attack("E12", "ima.replay-mismatch", "lineage.boot-changed")
@pytest.mark.swtpm
def test_a_tpm_that_was_reset_under_its_kernel_forgets_nothing(
    reset: tuple[Scene, Machine], verdict: Verdict
) -> None:
    """The kernel's list goes on from before; PCR 10 begins anew, and the reset is counted."""
    scene, tpm = reset
    keep(scene, scene.decide())
    ima_of(scene).measure(MINER, b"miner")
    tpm.boot(simulate_boot(grub_description(), ALL_BANKS))
    ima_of(scene).measure(BASH, b"bash")
    verdict.refused(renew(scene), "lineage.boot-changed")
    scene.prior = None
    verdict.refused(scene.decide(), "ima.replay-mismatch")


@attack("E12", "ima.boot-aggregate.missing")
@pytest.mark.swtpm
def test_a_list_from_the_reset_on_has_no_beginning(
    reset: tuple[Scene, Machine], verdict: Verdict
) -> None:
    """The entries since the reset lead to PCR 10, and belong to no boot."""
    scene, tpm = reset
    ima_of(scene).measure(MINER, b"miner")
    before = len(ima_of(scene).data)
    tpm.boot(simulate_boot(grub_description(), ALL_BANKS))
    ima_of(scene).measure(BASH, b"bash")
    verdict.refused(shown(scene, ima_of(scene).data[before:]))


@attack("E12", "ima.list.shrunk")
def test_a_list_does_not_become_shorter_within_a_lineage(running: Scene, verdict: Verdict) -> None:
    """The quote vouches for fewer entries than it did before: a TPM's state was copied."""
    ima_of(running).measure("/usr/bin/cat", b"cat")
    keep(running, running.decide())
    counters = running.node.clock_info
    running.node.reboot()
    simulate_boot(grub_description()).extend(running.node)
    running.node.clock_info = counters
    running.node.start_ima().measure(BASH, b"bash")
    assert running.prior is not None
    challenge = running.challenge()
    evidence = running.attest(challenge, previous=running.prior.head, first=0)
    verdict.refused(running.appraise(running.verify(evidence, challenge), challenge))
