"""Enrolment, leases and renewals over HTTP, and every way to be refused one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import httpx2
import pytest

from bootlease.evidence import CredentialChallenge, EnrolmentReceipt, LeaseRequest, TokenEncoding
from bootlease.testing.attesting_client import AttestingClient, finding_ids
from bootlease.testing.boot import SimulatedBoot, simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import AUDIENCE, default_lease, plain_key
from bootlease.testing.simulated_node import SimulatedNode
from bootlease.testing.verifier_process import VerifierProcess
from bootlease.token import KeySet, verify_token
from bootlease.tpm import TPMAObject, parse_public
from bootlease.tpm.endorsement_key import POLICY_B

NewClient = Callable[..., AttestingClient]


def keys(http: httpx2.Client) -> KeySet:
    """The verifier's published token keys."""
    return KeySet.from_jwks(http.get("/.well-known/jwks.json").content)


def test_a_node_enrols_gets_a_lease_and_renews_it_by_digest(
    new_client: NewClient, running: VerifierProcess
) -> None:
    """Four tokens of one lineage, each verifying; a renewal sends less than 2 kB, once."""
    client = new_client()
    first = client.renew()
    sizes = []
    for _ in range(3):
        evidence = client.attest()
        sizes.append(len(evidence.encode()))
        client.keep(client.present(evidence))
    assert max(sizes) < 2048
    published = keys(client.http)
    tokens = [
        verify_token(
            answer.leases[0].token,
            published,
            now=answer.challenge.issued_at,
            issuer=running.url,
            audience=AUDIENCE,
        )
        for answer in client.answers
    ]
    assert [token.claims.lineage.seq for token in tokens] == [0, 1, 2, 3]
    assert len({token.claims.lineage.root for token in tokens}) == 1
    assert tokens[1].claims.lineage.prev == first.head == tokens[0].digest
    assert [answer.decision for answer in client.answers] == [
        token.claims.decision for token in tokens
    ]
    assert tokens[0].claims.subject == client.node.hex()


def test_several_leases_of_both_encodings_are_granted_at_once(
    new_client: NewClient, running: VerifierProcess
) -> None:
    """One evidence document, one token for each workload; the head names them all."""
    client = new_client()
    client.leases = (
        default_lease(),
        LeaseRequest(("repo:acme/x",), AUDIENCE, plain_key(12), TokenEncoding.JWT),
    )
    answer = client.renew()
    assert [lease.encoding for lease in answer.leases] == [TokenEncoding.CWT, TokenEncoding.JWT]
    assert answer.head not in {lease.claims_digest for lease in answer.leases}
    assert client.renew().sequence == 1
    token = verify_token(
        answer.leases[1].token,
        keys(client.http),
        now=answer.challenge.issued_at,
        issuer=running.url,
        audience=AUDIENCE,
    )
    assert token.claims.scope == ("repo:acme/x",)


def test_a_key_inside_the_tpm_is_granted_as_such(new_client: NewClient) -> None:
    """A confirmation key that the AK certified gets a lease."""
    client = new_client()
    key = client.device.bound_key()
    client.leases = (LeaseRequest(("tool:search",), AUDIENCE, key.certification),)
    assert len(client.renew().leases) == 1


def test_the_same_bytes_get_the_same_answer(new_client: NewClient) -> None:
    """A lost answer can be asked for again, byte for byte."""
    client = new_client()
    evidence = client.attest().encode()
    first, second = client.present(evidence), client.present(evidence)
    assert first.status_code == second.status_code == 200
    assert first.content == second.content
    client.keep(second)
    client.renew()


def test_other_evidence_for_a_spent_challenge_is_refused_and_costs_nothing(
    new_client: NewClient,
) -> None:
    """The challenge is single-use; the lineage goes on (attack A11)."""
    client = new_client()
    spent = client.ask()
    client.renew()
    replayed = client.present(client.attest(spent))
    assert replayed.status_code == 409
    assert finding_ids(replayed) == {"challenge.spent"}
    assert client.renew().sequence == 1


def test_a_refusal_is_answered_again_too(new_client: NewClient) -> None:
    """The stored answer of a refusal is the refusal, with its decision."""
    client = new_client()
    client.device.pcr_extend(8, {bank: b"x" * bank.size for bank in client.ask().pcrs})
    evidence = client.attest().encode()
    first, second = client.present(evidence), client.present(evidence)
    assert first.status_code == second.status_code == 403
    assert first.content == second.content
    assert len(first.json()["decision"]) == 64


def test_two_concurrent_uses_of_one_challenge_yield_one_token(new_client: NewClient) -> None:
    """Of two different documents for one nonce, one is answered and one is told so."""
    client = new_client()
    challenge = client.ask()
    bodies = [
        client.attest(
            challenge,
            leases=(default_lease(), LeaseRequest(("tool:search",), AUDIENCE, plain_key(n))),
        ).encode()
        for n in range(2, 10)
    ]
    barrier = threading.Barrier(len(bodies))
    answers: list[httpx2.Response] = []

    def present(body: bytes) -> None:
        with httpx2.Client(base_url=client.http.base_url, trust_env=False) as http:
            other = replace(client, http=http)
            barrier.wait()
            answers.append(other.present(body))

    threads = [threading.Thread(target=present, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7


def test_two_different_renewals_of_one_head_end_the_lineage(new_client: NewClient) -> None:
    """A fork is refused, and what was forked is over (design 4.6)."""
    client = new_client()
    client.renew()
    riding = client.challenge
    fork = client.attest(client.ask())
    client.challenge = riding
    client.renew()
    forked = client.present(fork)
    assert forked.status_code == 403
    assert "lineage.forked" in finding_ids(forked)
    after = client.present(client.attest())
    assert finding_ids(after) == {"lineage.unknown-head"}


def test_garbage_in_a_nodes_name_changes_nothing_for_it(new_client: NewClient) -> None:
    """Neither noise, nor evidence of another TPM, nor a broken signature ends a lease."""
    client, stranger = new_client(), new_client()
    client.renew()
    challenge = client.challenge
    assert challenge is not None
    stranger.head = client.head
    good = client.attest()
    forgeries: list[bytes] = [
        b"",
        b"\xff" * 100,
        b"\xa1" * 20_000,
        stranger.attest(challenge, full=False).encode(),
        replace(good, signature=good.signature[:-1] + bytes([good.signature[-1] ^ 1])).encode(),
    ]
    statuses = [client.present(body).status_code for body in forgeries]
    assert statuses == [400, 400, 400, 403, 403]
    assert client.present(good).status_code == 200


@pytest.mark.parametrize(
    ("alter", "finding"),
    [
        (
            lambda e: replace(e, leases=(replace(e.leases[0], scope=("repo:acme/x",)),)),
            "request.scope.mismatch",
        ),
        (
            lambda e: replace(e, leases=(replace(e.leases[0], audience="https://other"),)),
            "request.scope.mismatch",
        ),
        (
            lambda e: replace(e, leases=(replace(e.leases[0], confirmation=plain_key(99)),)),
            "request.confirmation-key.mismatch",
        ),
        (lambda e: replace(e, logs={"tcg": e.logs["tcg"] + b"\0"}), "eventlog.digest.mismatch"),
    ],
    ids=["scope", "audience", "confirmation-key", "log"],
)
def test_what_was_altered_in_transit_is_named(
    new_client: NewClient, alter: Callable[..., object], finding: str
) -> None:
    """Each alteration is its own finding, consumes nothing, and the original still counts."""
    client = new_client()
    evidence = client.attest()
    altered = client.present(alter(evidence))  # type: ignore[arg-type]  # each returns evidence
    assert altered.status_code == 403
    assert finding_ids(altered) == {finding}
    assert altered.json()["type"].endswith("unverified-evidence")
    assert client.present(evidence).status_code == 200


def test_another_nodes_challenge_is_refused(new_client: NewClient) -> None:
    """A nonce set for A does nothing for B, in either one's name (attack A13)."""
    one, other = new_client(), new_client()
    evidence = other.attest(one.ask())
    assert finding_ids(other.present(evidence)) == {"challenge.node.mismatch"}
    assert "quote.signature.invalid" in finding_ids(one.present(evidence, one.node))
    one.renew()


def test_an_unknown_challenge_is_refused(new_client: NewClient) -> None:
    """A nonce of the node's own making is no challenge (CVE-2026-6420)."""
    client = new_client()
    made_up = replace(client.ask(), nonce=b"\0" * 32)
    assert finding_ids(client.present(client.attest(made_up))) == {"challenge.unknown"}


def test_challenges_differ(new_client: NewClient) -> None:
    """No two are alike, and both can be answered."""
    client = new_client()
    first, second = client.ask(), client.ask()
    assert first.nonce != second.nonce
    assert client.present(client.attest(first)).status_code == 200


def test_an_unknown_node_is_told_so(new_client: NewClient) -> None:
    """Challenge and lease of a node that is not enrolled are 404 with a finding."""
    client = new_client()
    evidence = client.attest()
    nobody = b"\1" * 32
    for answer in (
        client.http.post(f"/v1/nodes/{nobody.hex()}/challenges"),
        client.present(evidence, nobody),
    ):
        assert answer.status_code == 404
        assert finding_ids(answer) == {"node.unknown"}


def test_a_log_that_is_not_at_hand_is_asked_for(
    new_client: NewClient, good_boot: SimulatedBoot
) -> None:
    """The challenge stands: the same nonce is answered again with the log in full."""
    client = new_client()
    odd = good_boot.event_log + b"\0" * 64
    wanted = client.present(client.attest(log=odd, full=False))
    assert wanted.status_code == 409
    assert finding_ids(wanted) == {"eventlog.unavailable"}
    assert client.present(client.attest(full=True)).status_code == 200


def test_a_log_of_megabytes_is_appraised_like_any_other(
    new_client: NewClient, good_boot: SimulatedBoot
) -> None:
    """Eight MiB of log, mostly fill, in full and then by digest."""
    client = new_client()
    size = 8 * 1024 * 1024
    client.device.event_log = good_boot.event_log + bytes(size - len(good_boot.event_log))
    assert client.renew().sequence == 0
    assert client.renew().sequence == 1


def test_a_changed_boot_is_refused_with_its_reason_and_ends_the_lineage(
    new_client: NewClient,
) -> None:
    """The refusal is recorded and names the event; the old lineage is over."""
    client = new_client()
    client.renew()
    description = grub_description()
    client.device.boot(
        simulate_boot(description.with_command_line(description.command_line + " init=/bin/sh"))
    )
    refused = client.present(client.attest(full=True))
    assert refused.status_code == 403
    assert "lineage.boot-changed" in finding_ids(refused)
    assert any(finding["pcr"] == 8 for finding in refused.json()["findings"] if "pcr" in finding)
    client.challenge = None
    assert "lineage.unknown-head" in finding_ids(client.present(client.attest()))


def test_a_pcr_extended_at_run_time_is_refused(new_client: NewClient) -> None:
    """The log no longer leads to the quoted values."""
    client = new_client()
    client.renew()
    client.device.pcr_extend(4, {bank: b"x" * bank.size for bank in client.ask().pcrs})
    refused = client.present(client.attest())
    assert refused.status_code == 403
    assert any("pcr" in finding or "replay" in finding for finding in finding_ids(refused))


def test_what_policy_does_not_grant_is_refused(new_client: NewClient) -> None:
    """Scope and audience each have their finding, together."""
    client = new_client()
    client.leases = (
        default_lease(scope=("root:everything",)),
        default_lease(audience="https://elsewhere"),
    )
    assert finding_ids(client.present(client.attest())) == {
        "policy.scope.denied",
        "policy.audience.denied",
    }


def test_a_reset_counter_that_went_back_is_refused_across_re_enrolment(
    new_client: NewClient,
) -> None:
    """The high-water mark belongs to the EK, not to the enrolment (attack A23)."""
    client = new_client()
    client.device.clock_info = replace(client.device.clock_info, reset_count=40)
    client.renew()
    client.device.clock_info = replace(client.device.clock_info, reset_count=39)
    client.enrol()
    client.head, client.challenge = None, None
    assert "clock.reset-count.rollback" in finding_ids(client.present(client.attest()))


def test_a_restored_state_is_refused_at_every_try(new_client: NewClient) -> None:
    """A refusal ends the lineage and forgives nothing; an honest reboot goes on (attack A22)."""
    client = new_client()
    before = replace(client.device.clock_info, reset_count=5, restart_count=3, clock=10_000_000)
    client.device.clock_info = before
    client.renew()
    client.device.clock_info = replace(before, restart_count=1, clock=1000)
    for _ in range(3):
        client.head, client.challenge = None, None
        refused = client.present(client.attest())
        assert finding_ids(refused) == {"clock.restart-count.rollback"}
    client.device.clock_info = replace(before, reset_count=6, restart_count=0)
    client.challenge = None
    assert client.renew().sequence == 0


def test_one_tpm_is_one_node_whatever_is_claimed_of_its_ek(new_client: NewClient) -> None:
    """Another template with the same key leads to the same node; what is none is refused."""
    client = new_client()
    ek = parse_public(client.device.ek_public())
    high = replace(
        ek,
        object_attributes=ek.object_attributes | TPMAObject.USER_WITH_AUTH,
        auth_policy=POLICY_B[ek.name_alg],
    )
    asked = client.request_enrolment(ek_public=high.marshal())
    done = client.activate(CredentialChallenge.parse(asked.content))
    assert EnrolmentReceipt.parse(done.content).node == client.node
    no_da = replace(ek, object_attributes=ek.object_attributes | TPMAObject.NO_DA)
    refused = client.request_enrolment(ek_public=no_da.marshal())
    assert finding_ids(refused) == {"ek.attributes.unexpected"}


def test_one_wrong_secret_ends_a_pending_enrolment(new_client: NewClient) -> None:
    """No second try, and no word about how wrong it was (attack B6)."""
    client = new_client(enrolled=False)
    credential = CredentialChallenge.parse(client.request_enrolment().content)
    wrong = client.activate(credential, b"x" * 32)
    assert wrong.status_code == 403
    assert finding_ids(wrong) == {"enrolment.secret.mismatch"}
    assert client.activate(credential).status_code == 404
    client.enrol()


def test_a_credential_opens_only_with_the_ak_that_was_presented(
    new_client: NewClient, local_ca: LocalCA
) -> None:
    """The AK's name is recomputed from what is enrolled (attack B4)."""
    client = new_client(enrolled=False)
    other = SimulatedNode(local_ca)
    answer = client.request_enrolment(ak_public=other.ak_public())
    credential = CredentialChallenge.parse(answer.content)
    with pytest.raises(Exception, match="ActivateCredential"):
        client.device.activate_credential(credential.id_object, credential.encrypted_secret)


def test_another_tpms_certificate_endorses_nothing(
    new_client: NewClient, local_ca: LocalCA
) -> None:
    """EK and certificate must be of one key (attack B5)."""
    client = new_client(enrolled=False)
    answer = client.request_enrolment(ek_chain=tuple(SimulatedNode(local_ca).ek_chain()))
    assert answer.status_code == 403
    assert "endorsement.key.mismatch" in finding_ids(answer)


def test_a_stranger_ca_endorses_nothing(new_client: NewClient) -> None:
    """Only pinned roots count."""
    client = new_client(enrolled=False)
    client.device = SimulatedNode(LocalCA.create())
    assert "endorsement.chain.untrusted" in finding_ids(client.request_enrolment())


def test_a_node_that_enrols_another_ak_starts_anew(
    new_client: NewClient,
) -> None:
    """The old AK's evidence is worth nothing from then on (attacks B7, B9)."""
    client = new_client()
    client.renew()
    old = client.attest()
    client.device.replace_ak()
    other = AttestingClient(client.http, client.device, client.leases)
    assert other.enrol() == client.node
    assert "quote.signature.invalid" in finding_ids(client.present(old))
    other.renew()
