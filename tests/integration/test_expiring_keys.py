"""Expiring keys on swtpm: what the TPM itself refuses, whatever asks it.

A patched agent is one that keeps key and ticket and goes on: nothing in these tests but the TPM
looks at a clock.
"""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from tpm2_pytss import ESYS_TR
from tpm2_pytss.constants import TPM2_ALG, TPM2_CLOCK, TPM2_SE, TPM2_SU, TPMA_SESSION
from tpm2_pytss.types import (
    TPM2B_PUBLIC,
    TPM2B_TIMEOUT,
    TPMT_PUBLIC,
    TPMT_SIGNATURE,
    TPMT_SYM_DEF,
)

from bootlease.errors import TransportError
from bootlease.evidence.verify import CERTIFY_LABEL
from bootlease.model import HashAlg
from bootlease.node.tpm.device import ESAPIDevice, ESAPIExpiringKey
from bootlease.node.tpm.permits import PermitSession, policy_session, ticket_session
from bootlease.ports import Permit
from bootlease.testing.swtpm import SoftwareTPM, SoftwareTPMState, swtpm_process
from bootlease.token import PrivateKeySigner
from bootlease.tpm import accept_attestation_key, parse_public, verify_certification
from bootlease.tpm.policy import (
    NONCE_BYTES,
    accept_expiring_key,
    permit_message,
    permit_signature,
    signed_policy,
    signing_authority,
)
from bootlease.tpm.wire import sized

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.swtpm

REF = hashlib.sha256(b"what the key is for").digest()
OTHER_REF = hashlib.sha256(b"something else").digest()
DIGEST = hashlib.sha256(b"data").digest()
LONG = 3000
OVER = "the policy has expired"
BAD_TICKET = "invalid ticket"
BAD_SIGNATURE = "the signature is not valid"
BAD_NONCE = "nonce value mismatch"
NOT_SATISFIED = "a policy check failed"
NO_PASSWORD = "authValue or authPolicy is not available"
SESSIONS = 0x02000000, 0x03FFFFFF
OBJECTS = 0x80000000, 0x80FFFFFF


class Leash:
    """A verifier's leash key."""

    def __init__(self) -> None:
        """Make one."""
        private = ec.generate_private_key(ec.SECP256R1())
        self.public = signing_authority(private.public_key())
        self._signer = PrivateKeySigner(private)

    def policy(self, ref: bytes = REF) -> bytes:
        """Return the policy of a key for ``ref``."""
        return signed_policy(self.public.name, ref)

    def permit(self, key: ESAPIExpiringKey, nonce: bytes, seconds: int, ref: bytes = REF) -> Permit:
        """Permit the use of a key."""
        return Permit(key, ref, seconds, self._signer.sign(permit_message(nonce, seconds, ref)))


@dataclass
class Bench:
    """A TPM, a connection to it, and a leash key."""

    tpm: SoftwareTPM
    device: ESAPIDevice
    leash: Leash

    def key(self, ref: bytes = REF) -> ESAPIExpiringKey:
        """Make an expiring key."""
        return self.device.expiring_key(self.leash.policy(ref))

    def permit(self, key: ESAPIExpiringKey, seconds: int, ref: bytes = REF) -> None:
        """Let a key be used for a while from now."""
        nonce = self.device.begin_permits()
        self.redeem(self.leash.permit(key, nonce, seconds, ref))

    def permitted(self, seconds: int, ref: bytes = REF) -> ESAPIExpiringKey:
        """Make a key, and let it be used for a while."""
        key = self.key(ref)
        self.permit(key, seconds, ref)
        return key

    def redeem(self, *permits: Permit) -> None:
        """Show the TPM permits."""
        self.device.redeem(self.leash.public.marshal(), permits)

    def time(self) -> int:
        """Return the TPM's Time, in milliseconds."""
        return int(self.device.esapi.read_clock().time)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A TPM of the test's own, for many reset it."""
    (tmp_path / "tpm").mkdir()
    state = SoftwareTPMState(tmp_path / "tpm")
    with swtpm_process(state) as tpm, ESAPIDevice(tpm.tcti) as device:
        yield Bench(tpm, device, Leash())


def refused(key: ESAPIExpiringKey, words: str) -> None:
    """Demand that the TPM refuses to sign, in these words."""
    with pytest.raises(TransportError, match=words):
        key.sign(b"data")


def timeout_of(key: ESAPIExpiringKey) -> int:
    """Return the end of a key's ticket in the TPM's Time, as libtpms writes it."""
    assert key.ticket is not None
    return int.from_bytes(bytes(key.ticket.timeout.marshal())[2:10], "big")


# -- what the TPM computes


def test_the_tpm_computes_the_same_name_and_policy(bench: Bench) -> None:
    """Name of the authority and digest of the policy are those that the TPM has."""
    esapi = bench.device.esapi
    area, _ = TPMT_PUBLIC.unmarshal(bench.leash.public.marshal())
    authority = esapi.load_external(TPM2B_PUBLIC(publicArea=area), None, ESYS_TR.NULL)
    assert bytes(esapi.tr_get_name(authority)) == bench.leash.public.name
    trial = esapi.start_auth_session(
        *(ESYS_TR.NONE, ESYS_TR.NONE, TPM2_SE.TRIAL),
        *(TPMT_SYM_DEF(algorithm=TPM2_ALG.NULL), TPM2_ALG.SHA256),
    )
    signature, _ = TPMT_SIGNATURE.unmarshal(permit_signature(bytes(range(64))).marshal())
    esapi.policy_signed(authority, trial, signature, policy_ref=REF, expiration=0)
    assert bytes(esapi.policy_get_digest(trial)) == bench.leash.policy()


def test_a_key_is_certified_and_signs_while_it_is_permitted(bench: Bench) -> None:
    """The AK vouches for the policy, and the signature is the key's."""
    key = bench.permitted(LONG)
    ak = accept_attestation_key(parse_public(bench.device.ak_public()))
    public, certified = parse_public(key.certification.public), key.certification
    verify_certification(certified.attest, certified.signature, ak, CERTIFY_LABEL, public)
    accepted = accept_expiring_key(public, bench.leash.policy())
    assert isinstance(accepted.key, ec.EllipticCurvePublicKey)
    for _ in range(2):
        raw = key.sign(b"data")
        der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
        accepted.key.verify(der, b"data", ec.ECDSA(hashes.SHA256()))


# -- without a permit


def test_no_password_and_no_other_policy_opens_it(bench: Bench) -> None:
    """Neither the empty password nor an empty policy session signs."""
    key = bench.key()
    with pytest.raises(TransportError, match="no permit"):
        key.sign(b"data")
    with pytest.raises(TransportError, match=NO_PASSWORD):
        bench.device.sign(key._context, DIGEST)
    with (
        policy_session(bench.device) as session,
        pytest.raises(TransportError, match=NOT_SATISFIED),
    ):
        bench.device.sign(key._context, DIGEST, session)


@pytest.mark.parametrize("lie", ["longer", "other-leash", "other-ref", "altered"])
def test_what_the_leash_key_did_not_sign_is_no_permit(bench: Bench, lie: str) -> None:
    """A longer time, another key, another purpose: the TPM checks the signature over all of it."""
    key, nonce = bench.key(), bench.device.begin_permits()
    given = bench.leash.permit(key, nonce, 5)
    seconds, ref, signature = given.seconds, given.policy_ref, given.signature
    if lie == "longer":
        seconds = LONG
    elif lie == "other-ref":
        ref = OTHER_REF
    elif lie == "altered":
        signature = signature[:-1] + bytes([signature[-1] ^ 1])
    else:
        signature = Leash().permit(key, nonce, 5).signature
    with pytest.raises(TransportError, match=BAD_SIGNATURE):
        bench.redeem(Permit(key, ref, seconds, signature))
    refused(key, "no permit")


def test_a_permit_for_another_session_is_none(bench: Bench) -> None:
    """An answer that was kept back opens nothing once another session has begun."""
    key = bench.key()
    kept_back = bench.leash.permit(key, bench.device.begin_permits(), LONG)
    bench.device.begin_permits()
    with pytest.raises(TransportError, match=BAD_SIGNATURE):
        bench.redeem(kept_back)
    # Nor does it where its own nonce is said to be this session's.
    session = PermitSession(bench.device)
    session.nonce = bytes(NONCE_BYTES)
    asked = (kept_back.policy_ref, kept_back.seconds, kept_back.signature)
    with pytest.raises(TransportError, match=BAD_NONCE):
        session.redeem(bench.leash.public.marshal(), [asked])
    session.close()


def test_a_permit_for_one_key_opens_no_other(bench: Bench) -> None:
    """Two leases of one node: the one that is refused its renewal is over alone."""
    one, other = bench.key(REF), bench.key(OTHER_REF)
    nonce = bench.device.begin_permits()
    bench.redeem(
        bench.leash.permit(one, nonce, LONG, REF), bench.leash.permit(other, nonce, 2, OTHER_REF)
    )
    other.sign(b"data")
    time.sleep(2.1)
    refused(other, OVER)
    other.ticket = one.ticket
    refused(other, NOT_SATISFIED)
    assert one.sign(b"data")


def test_a_ticket_is_for_what_it_says_alone(bench: Bench) -> None:
    """A ticket under another policyRef, or with a later end, is none."""
    key = bench.permitted(LONG, OTHER_REF)
    ticket = key.ticket
    assert ticket is not None
    later = sized((timeout_of(key) + 100_000).to_bytes(8, "big"))
    for altered in (
        replace(ticket, policy_ref=REF),
        replace(ticket, authority=b"\0\x0b" + bytes(32)),
    ):
        key.ticket = altered
        refused(key, BAD_TICKET)
    key.ticket = replace(ticket, timeout=TPM2B_TIMEOUT.unmarshal(later)[0])
    refused(key, BAD_TICKET)
    key.ticket = ticket
    assert key.sign(b"data")


# -- after the end


def test_after_the_end_the_tpm_refuses(bench: Bench) -> None:
    """Whoever holds key and ticket is refused; so is a session satisfied before the end."""
    key = bench.permitted(2)
    assert key.sign(b"data")
    ticket = key.ticket
    assert ticket is not None
    with ticket_session(bench.device, ticket) as session:
        time.sleep(2.1)
        with pytest.raises(TransportError, match=OVER):
            bench.device.sign(key._context, DIGEST, session)
    refused(key, OVER)


def test_a_permit_that_comes_too_late_is_none(bench: Bench) -> None:
    """The time counts from the session's start: an answer kept back gains none."""
    key, nonce = bench.key(), bench.device.begin_permits()
    permit = bench.leash.permit(key, nonce, 1)
    time.sleep(1.1)
    with pytest.raises(TransportError, match=OVER):
        bench.redeem(permit)


def test_a_renewal_goes_on_with_the_same_key(bench: Bench) -> None:
    """Each permit counts anew, and none that is older is of use."""
    key = bench.permitted(2)
    public = key.certification.public
    for _ in range(3):
        time.sleep(1.0)
        bench.permit(key, 2)
        assert key.sign(b"data")
    assert key.certification.public == public
    time.sleep(2.1)
    refused(key, OVER)


def test_another_process_is_refused_as_well(bench: Bench) -> None:
    """A process that was given key and ticket signs until the end, and not after it."""
    key = bench.permitted(6)
    ticket = key.ticket
    assert ticket is not None
    stolen = pickle.dumps(
        {
            "context": bytes(key._context.marshal()),
            "authority": ticket.authority,
            "policy_ref": ticket.policy_ref,
            "timeout": bytes(ticket.timeout.marshal()),
            "ticket": bytes(ticket.ticket.marshal()),
        }
    )
    # swtpm serves one connection at a time.
    bench.device.close()
    for expected, wait in ((b"signed", 6.1), (OVER.encode(), 0)):
        done = subprocess.run(
            [sys.executable, "-c", THIEF, bench.tpm.tcti],
            input=stolen,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert expected in done.stdout, done
        time.sleep(wait)


THIEF = """
import pickle, sys
from tpm2_pytss.types import TPM2B_TIMEOUT, TPMS_CONTEXT, TPMT_TK_AUTH
from bootlease.errors import TransportError
from bootlease.node.tpm.permits import Ticket
from bootlease.node.tpm.device import ESAPIDevice, ESAPIExpiringKey
held = pickle.load(sys.stdin.buffer)
with ESAPIDevice(sys.argv[1]) as device:
    key = ESAPIExpiringKey(device, TPMS_CONTEXT.unmarshal(held["context"])[0], None)
    key.ticket = Ticket(
        held["authority"], held["policy_ref"], TPM2B_TIMEOUT.unmarshal(held["timeout"])[0],
        TPMT_TK_AUTH.unmarshal(held["ticket"])[0],
    )
    try:
        print("signed", len(key.sign(b"data")))
    except TransportError as exc:
        print(exc)
"""


# -- what else could move the end


def test_restarting_or_swapping_the_session_starts_no_new_time(bench: Bench) -> None:
    """TPM2_PolicyRestart and a swap leave the session's start where it was."""
    key = bench.key()
    for act in ("restart", "swap"):
        before = bench.time()
        session = PermitSession(bench.device)
        began = bench.time()
        time.sleep(1.0)
        esapi, handle = bench.device.esapi, session._session
        assert handle is not None
        if act == "restart":
            esapi.policy_restart(handle)
        else:
            session._session = esapi.context_load(esapi.context_save(handle))
        permit = bench.leash.permit(key, session.nonce, 30)
        (key.ticket,) = session.redeem(
            bench.leash.public.marshal(), [(permit.policy_ref, 30, permit.signature)]
        )
        session.close()
        assert before + 30_000 <= timeout_of(key) <= began + 30_000


def test_a_session_that_was_used_has_another_nonce(bench: Bench) -> None:
    """Use rolls the nonce and starts the time anew: the old permit is for no session any more."""
    key = bench.permitted(LONG)
    session = PermitSession(bench.device)
    kept = bench.leash.permit(key, session.nonce, 30)
    handle, ticket = session._session, key.ticket
    assert handle is not None
    assert ticket is not None
    esapi = bench.device.esapi
    esapi.trsess_set_attributes(handle, TPMA_SESSION.CONTINUESESSION)
    esapi.policy_ticket(
        handle, ticket.timeout, ticket.authority, ticket.ticket, policy_ref=ticket.policy_ref
    )
    bench.device.sign(key._context, DIGEST, handle)
    with pytest.raises(TransportError, match=BAD_NONCE):
        session.redeem(
            bench.leash.public.marshal(), [(kept.policy_ref, kept.seconds, kept.signature)]
        )
    session.close()


def test_setting_the_clock_moves_no_end(bench: Bench) -> None:
    """TPM2_ClockSet moves Clock; the end is counted by Time."""
    key = bench.permitted(2)
    clock = bench.device.read_clock().clock
    bench.device.esapi.clock_set(clock + 3_600_000)
    assert bench.device.read_clock().clock >= clock + 3_600_000
    assert key.sign(b"data")
    time.sleep(2.1)
    refused(key, OVER)


def test_the_clock_s_rate_can_be_slowed_a_little(bench: Bench) -> None:
    """Whoever has the owner's password makes 7 s of 6: the docs say so."""
    for _ in range(100):
        bench.device.esapi.clock_rate_adjust(TPM2_CLOCK.COARSE_SLOWER)
    began, at = bench.time(), time.monotonic()
    time.sleep(2.0)
    rate = (bench.time() - began) / (time.monotonic() - at) / 1000
    assert 0.8 < rate < 0.92


@pytest.mark.parametrize("orderly", [True, False])
def test_a_reset_ends_every_ticket(bench: Bench, *, orderly: bool) -> None:
    """After a reset the same key can be made again, and no old ticket opens it."""
    key = bench.permitted(LONG)
    kept = key.ticket
    bench.device.close()
    bench.tpm.reboot(orderly=orderly)
    with ESAPIDevice(bench.tpm.tcti) as device:
        again = Bench(bench.tpm, device, bench.leash).key()
        again.ticket = kept
        refused(again, BAD_TICKET)


def test_a_suspend_that_restarts_the_tpm_ends_every_ticket(bench: Bench) -> None:
    """TPM2_Shutdown(STATE), power off, TPM2_Startup(STATE), as in suspend to memory."""
    key = bench.permitted(LONG)
    kept = key.ticket
    bench.device.esapi.shutdown(TPM2_SU.STATE)
    bench.device.close()
    bench.tpm.resume()
    with ESAPIDevice(bench.tpm.tcti) as device:
        assert device.read_clock().restart_count == 1
        again = Bench(bench.tpm, device, bench.leash).key()
        again.ticket = kept
        refused(again, BAD_TICKET)


# -- the TPM's few slots


def test_nothing_is_left_in_the_tpm(bench: Bench) -> None:
    """A hundred renewals, some without an answer, and as many signatures leave no session."""
    keys = [bench.key(hashlib.sha256(bytes([at])).digest()) for at in range(4)]
    for turn in range(100):
        nonce = bench.device.begin_permits()
        if turn % 3 == 0:
            continue
        bench.redeem(
            *(
                bench.leash.permit(key, nonce, 60, hashlib.sha256(bytes([at])).digest())
                for at, key in enumerate(keys)
            )
        )
        assert keys[turn % 4].sign(b"data")
    bench.device.begin_permits()
    assert len(bench.device.handles(*SESSIONS)) == 1
    bench.device._end_permits()
    assert bench.device.handles(*SESSIONS) == ()
    assert bench.device.handles(*OBJECTS) == ()


def test_threads_that_sign_at_once_take_turns(bench: Bench) -> None:
    """More of them than the TPM has places for, while the agent renews and quotes."""
    keys = [bench.permitted(LONG), *(bench.device.bound_key() for _ in range(5))]
    bench.device.ak_public()
    with ThreadPoolExecutor(12) as pool:
        signing = [pool.submit(keys[at % len(keys)].sign, b"data") for at in range(120)]
        for _ in range(10):
            bench.device.begin_permits()
            bench.device.quote(b"nonce", {HashAlg.SHA256: [0]})
        assert all(len(each.result(timeout=60)) == 64 for each in signing)


def test_a_hundred_keys_share_one_session(bench: Bench) -> None:
    """One nonce in the evidence serves all keys of the node."""
    refs = [hashlib.sha256(b"lease %d" % at).digest() for at in range(100)]
    keys = [bench.key(ref) for ref in refs]
    nonce = bench.device.begin_permits()
    permits = [bench.leash.permit(key, nonce, 60, ref) for key, ref in zip(keys, refs, strict=True)]
    bench.redeem(*permits)
    assert all(len(key.sign(b"data")) == 64 for key in keys)
