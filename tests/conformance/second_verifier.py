"""A second verifier of proof files, written from docs/proof.md alone.

It imports nothing of the first one: ``cryptography``, ``cbor2`` and ``hashlib`` only. It checks
structure, digests, trees, lineage, the EK's path, the quote, IMA lists up to PCR 10, token and
receipt.

It is the page's smaller verifier: it makes no decision again, so that it takes the record's word
for what the page lists there. Besides it leaves out what trust from outside could add, a quorum of
witnesses and roots of one's own; of the enrolment record what the certificates say in other words
(``make``, ``exp``, ``path``, ``odd``, ``notes``), their extensions and revocation lists; the bounds
on the size of a file; and the first template of IMA.

    python second_verifier.py FILE LEDGER_VKEY TOKEN_KEY.pem
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import sys
from pathlib import Path
from typing import Any, Final

import cbor2
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

_TYPES: Final[dict[str, Any]] = {
    "type": str,
    "token": (bytes, type(None)),
    "receipt": (bytes, type(None)),
    "claims": bytes,
    **dict.fromkeys(("shards", "witnesses", "decisions", "enrolment", "policies"), list),
    **dict.fromkeys(("references", "roots", "certificates", "logs"), list),
}


class Refused(Exception):  # noqa: N818 - a verdict, not a fault
    """The proof does not prove what it must."""


def demand(holds: object, what: str) -> None:
    """Refuse unless ``holds``."""
    if not holds:
        raise Refused(what)


def sha256(data: bytes) -> bytes:
    """Return the digest."""
    return hashlib.sha256(data).digest()


def canonical(data: bytes) -> Any:
    """Decode one canonical item: shortest heads, sorted keys, nothing behind it."""
    try:
        value = cbor2.loads(data, allow_duplicate_keys=False, allow_indefinite=False)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError) as exc:
        raise Refused("an item is no CBOR") from exc
    demand(cbor2.dumps(value) == data, "an item is not in its shortest form")
    _demand_sorted(value)
    return value


def _demand_sorted(value: Any) -> None:
    if isinstance(value, dict):
        keys = [cbor2.dumps(key) for key in value]
        demand(keys == sorted(keys), "a map's keys are out of order")
        for member in value.values():
            _demand_sorted(member)
    elif isinstance(value, list | tuple):
        for member in value:
            _demand_sorted(member)


def base64_exact(text: str) -> bytes:
    """Decode base64 in its only form."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as exc:
        raise Refused("text is not base64") from exc
    demand(base64.b64encode(data).decode() == text, "base64 has spare bits")
    return data


def ed25519_verify(public: bytes, signature: bytes, data: bytes, what: str) -> None:
    """Demand an Ed25519 signature."""
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError) as exc:
        raise Refused(f"{what}: the signature does not verify") from exc


class VKey:
    """A C2SP verifier key."""

    def __init__(self, text: str) -> None:
        """Parse ``name+id+base64``."""
        demand(isinstance(text, str) and text.count("+") >= 2, "no verifier key")
        self.name, key_id, rest = text.split("+", 2)
        material = base64_exact(rest)
        self.kind, self.public = material[0], material[1:]
        self.id = sha256(self.name.encode() + b"\n" + material)[:4]
        demand(key_id == self.id.hex(), "a verifier key has another id")


class Tree:
    """A checkpoint whose signatures verify."""

    def __init__(self, note: bytes, ledger: VKey, witnesses: list[VKey]) -> None:
        """Verify the note."""
        demand(b"\n\n" in note and note.endswith(b"\n"), "a checkpoint is no note")
        text, _, lines = note.rpartition(b"\n\n")
        self.text = text + b"\n"
        head = self.text.decode().split("\n")
        demand(len(head) == 4, "a checkpoint has other lines")
        self.origin, size, root = head[:3]
        demand(size == str(int(size)) if size.isdecimal() else False, "a size is no number")
        self.size, self.root = int(size), base64_exact(root)
        demand(self.origin.startswith(ledger.name + "/"), "a checkpoint is of another ledger")
        self.lines = 0
        self.cosigned: list[VKey] = []
        signed = False
        for line in lines.decode().removesuffix("\n").split("\n"):
            parts = line.split(" ")
            demand(len(parts) == 3 and parts[0] == "\u2014", "a signature line has another form")
            material = base64_exact(parts[2])
            self.lines += 1
            if parts[1] == ledger.name and material[:4] == ledger.id:
                ed25519_verify(ledger.public, material[4:], self.text, "checkpoint")
                demand(not signed, "the ledger signed twice")
                signed = True
                continue
            found = [key for key in witnesses if (key.name, key.id) == (parts[1], material[:4])]
            demand(found and found[0] not in self.cosigned, "a line's key is not listed")
            self._cosignature(found[0], material[4:])
            self.cosigned.append(found[0])
        demand(signed, "the ledger's key did not sign a checkpoint")

    def _cosignature(self, key: VKey, material: bytes) -> None:
        (time,) = struct.unpack(">Q", material[:8])
        if key.kind == 4:
            message = b"cosignature/v1\ntime %d\n" % time + self.text
            ed25519_verify(key.public, material[8:], message, "cosignature")
            return
        name, origin = key.name.encode(), self.origin.encode()
        message = b"".join(
            (
                *(b"subtree/v1\n\0", bytes((len(name),)), name, struct.pack(">Q", time)),
                *(bytes((len(origin),)), origin, struct.pack(">QQ", 0, self.size), self.root),
            )
        )
        try:
            mldsa.MLDSA44PublicKey.from_public_bytes(key.public).verify(material[8:], message)
        except InvalidSignature as exc:
            raise Refused("cosignature: the signature does not verify") from exc


def included_root(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """Return the root that a path leads to (RFC 9162 §2.1.3.2)."""
    demand(0 <= index < size, "a tree has no such leaf")
    node, last, rest = sha256(b"\0" + leaf), size - 1, list(path)
    while last:
        if index & 1 or index == last:
            if index & 1:
                demand(rest, "a path is too short")
                node = sha256(b"\1" + rest.pop(0) + node)
        else:
            demand(rest, "a path is too short")
            node = sha256(b"\1" + node + rest.pop(0))
        index, last = index >> 1, last >> 1
    demand(not rest, "a path is too long")
    return node


def digest_bytes(value: object) -> bool:
    """Tell whether a value is 32 bytes."""
    return isinstance(value, bytes) and len(value) == 32


class Proof:
    """One proof file and what is trusted."""

    def __init__(self, data: bytes, ledger_vkey: str, token_keys: list[bytes]) -> None:
        """Parse."""
        self.file = canonical(data)
        demand(isinstance(self.file, dict), "the file is no map")
        demand(set(self.file) == set(_TYPES), "the file has other members")
        for name, kind in _TYPES.items():
            demand(isinstance(self.file[name], kind), f"{name} is of another type")
        demand(self.file["type"] == "bootlease/proof/1", "the file is of another type")
        self.ledger = VKey(ledger_vkey)
        demand(self.ledger.kind == 1, "the ledger's key is of another type")
        self.token_keys = token_keys
        self.pools = {
            name: {sha256(each): each for each in self.file[name]}
            for name in ("policies", "references", "certificates", "logs")
        }
        for name, pool in self.pools.items():
            demand(list(pool) == sorted(pool), f"{name} are out of order")
            demand(len(pool) == len(self.file[name]), f"one of {name} is there twice")
        self.used_places: list[tuple[int, int]] = []
        self.used: dict[str, set[bytes]] = {name: set() for name in (*self.pools, "roots")}

    def piece(self, pool: str, digest: bytes) -> bytes:
        """Return the piece that a digest names."""
        demand(digest in self.pools[pool], f"one of {pool} is missing")
        self.used[pool].add(digest)
        piece: bytes = self.pools[pool][digest]
        return piece

    def verify(self) -> None:
        """Check everything."""
        self._trees()
        self._lineage()
        self._enrolment(*self.file["enrolment"])
        self._token()
        shards = {shard for shard, _ in self.used_places}
        demand({0, len(self.trees) - 1} <= shards, "nothing lies in the first or last shard")
        for name, pool in self.pools.items():
            demand(self.used[name] == set(pool), f"{name} hold more than is named")
        names = [sha256(cbor2.dumps(each)) for each in self.file["roots"]]
        demand(self.file["roots"] == sorted(self.file["roots"]), "sets of roots are out of order")
        demand(set(names) == self.used["roots"], "a set of roots is not named")
        for each in self.file["roots"]:
            demand(each == sorted(set(each)), "fingerprints are out of order")

    def _trees(self) -> None:
        texts = self.file["witnesses"]
        demand(texts == sorted(set(texts)), "witnesses are out of order")
        witnesses = [VKey(text) for text in texts]
        demand(all(key.kind in {4, 6} for key in witnesses), "a witness's key does not cosign")
        shards = self.file["shards"]
        demand(shards and all(len(shard) == 2 for shard in shards), "a shard has other members")
        self.trees = [Tree(shard[0], self.ledger, witnesses) for shard in shards]
        seen = {id(key) for tree in self.trees for key in tree.cosigned}
        demand(all(id(key) in seen for key in witnesses), "a witness cosigned nothing")
        demand(shards[0][1] is None, "the first shard has an opening")
        for before, tree, shard in zip(self.trees, self.trees[1:], shards[1:], strict=False):
            demand(shard[1] is not None, "a shard is not chained")
            record, path = shard[1]
            opening = canonical(record)
            demand(opening[0] == "bootlease/governance/1", "an opening is of another type")
            demand(opening[3] == "shard.opened", "a shard begins with another record")
            final = opening[4].get("checkpoint", b"")
            demand(final.rpartition(b"\n\n")[0] + b"\n" == before.text, "a shard is a fork")
            leaf = cbor2.dumps([sha256(record), None])
            demand(included_root(leaf, 0, tree.size, path) == tree.root, "an opening is not there")

    def _included(self, leaf: bytes, place: Any) -> tuple[int, int]:
        shard, index, path = place
        demand(0 <= shard < len(self.trees), "a place is in no shard")
        tree = self.trees[shard]
        demand(all(map(digest_bytes, path)), "a path holds no hashes")
        demand(included_root(leaf, index, tree.size, path) == tree.root, "a leaf is not there")
        self.used_places.append((shard, index))
        return shard, index

    def _lineage(self) -> None:
        self.lease = sha256(self.file["claims"])
        decisions = self.file["decisions"]
        demand(decisions, "there is no decision")
        self.records = []
        self.places = []
        self.clocks: list[list[Any]] = []
        self.ima: list[tuple[list[Any], bytes] | None] = []
        for number, (record, document, digests, place) in enumerate(decisions):
            last = number == len(decisions) - 1
            demand(all(map(digest_bytes, digests)), "a claims digest is none")
            self.places.append(self._included(cbor2.dumps([sha256(record), digests[0]]), place))
            members = canonical(record)
            demand(len(members) == 23 and members[0] == "bootlease/decision/2", "no record")
            demand(members[9] is True, "nothing was granted")
            if last:
                demand(digests == [self.lease], "the last decision is another lease's")
            else:
                demand(len(members[21]) == len(digests), "other leases were granted")
            self._decision(members, document)
            self.records.append(members)
        first = self.records[0]
        demand((first[13], first[11]) == (0, first[5]), "the lineage has no beginning")
        for number in range(1, len(decisions)):
            self._link(decisions[number - 1], number)

    def _decision(self, record: list[Any], document: bytes) -> None:
        demand(sha256(document) == record[5], "the evidence is another")
        evidence = canonical(document)
        demand(evidence["logs"] == {}, "the evidence carries logs")
        binding = canonical(evidence["binding"])
        for log in binding["logs"].values():
            self.piece("logs", log)
        listed = b""
        if "ima" in evidence and evidence["ima"][1] != sha256(b""):
            listed = self.piece("logs", evidence["ima"][1])
        challenge = canonical(record[4])
        demand((challenge["nonce"], challenge["node"]) == (binding["nonce"], record[2]), "nonce")
        demand(sha256(self.file["enrolment"][0]) == record[6], "the enrolment is another")
        enrolment = canonical(self.file["enrolment"][0])
        demand(enrolment["node"] == record[2], "the enrolment is another node's")
        self.piece("policies", record[16])
        for reference in record[14]:
            self.piece("references", reference)
        sets = {sha256(cbor2.dumps(each)): each for each in self.file["roots"]}
        demand(record[18] in sets, "a set of roots is missing")
        self.used["roots"].add(record[18])
        for fingerprint in sets[record[18]]:
            self.piece("certificates", fingerprint)
        self._quote(evidence, enrolment["ak"])
        policy = canonical(self.pools["policies"][record[16]])
        looked = policy["ima"] is not None
        self.ima.append(self._ima(record, evidence, policy, listed) if looked else None)

    def _ima(
        self, record: list[Any], evidence: Any, policy: Any, listed: bytes
    ) -> tuple[list[Any], bytes]:
        """Return how far a list was attested, and under which rules."""
        judged = [(each, canonical(self.pools["references"][each])) for each in record[14]]
        sets = [
            [each, members.get("nbf", 0) <= record[3] <= members.get("exp", record[3])]
            for each, members in judged
            if members["type"] == "bootlease/ima-reference/1"
        ]
        rules = ["bootlease/ima-rules/1", policy["ima"], policy["banks"], sets]
        digest = sha256(cbor2.dumps(rules))
        state = [0, 0, 0, {bank: bytes(HASHES[bank]().digest_size) for bank in policy["banks"]}]
        if evidence["ima"][0]:
            encoded, before = canonical(record[7])[9]
            demand(before == digest, "an IMA list goes on under other rules")
            state = canonical(encoded)
        demand(state[0] == evidence["ima"][0], "an IMA list begins elsewhere")
        return ima_state(state, listed, evidence["pcrs"]), digest

    def _quote(self, evidence: dict[str, Any], ak: bytes) -> None:
        attest = evidence["quote"]
        magic, kind, signer = struct.unpack_from(">IHH", attest)
        demand((magic, kind) == (0xFF544347, 0x8018), "the quote is none")
        (size,) = struct.unpack_from(">H", attest, 8 + signer)
        data = attest[10 + signer : 10 + signer + size]
        demand(data == sha256(evidence["binding"]), "the quote is bound to something else")
        clock = struct.unpack_from(">QII?", attest, 10 + signer + size)
        self.clocks.append(list(clock))
        quoted_pcrs(attest[10 + signer + size + 25 :], evidence["pcrs"])
        verify_tpm_signature(tpm_key(ak), evidence["signature"], attest)

    def _link(self, before: list[Any], number: int) -> None:
        earlier, record = self.records[number - 1], self.records[number]
        demand(record[22] == sha256(before[0]), "a decision names another before it")
        demand(record[13] == number, "a decision has another number")
        demand((record[1], record[6]) == (earlier[1], earlier[6]), "another issuer or enrolment")
        demand(self.places[number] > self.places[number - 1], "a decision stands too early")
        prior = canonical(record[7])
        digests = before[2]
        head = digests[0] if len(digests) == 1 else sha256(cbor2.dumps(digests))
        logs = canonical(canonical(before[1])["binding"])["logs"]
        before_that = canonical(earlier[7]) if earlier[7] is not None else None
        heads = [] if before_that is None else [before_that[1], *before_that[8]][:3]
        demand(
            prior[:9]
            == [
                *(earlier[11], head, earlier[13], self.clocks[number - 1]),
                *(earlier[21][0][4], logs, earlier[17]),
                *(self.records[0][3], heads),
            ],
            "a decision starts from another state",
        )
        reached = self.ima[number - 1]
        demand(len(prior) == (9 if reached is None else 10), "a state with other members")
        if reached is not None:
            state, rules = reached
            demand(canonical(prior[9][0]) == state, "an IMA list goes on from another place")
            demand(prior[9][1] == rules, "a state was reached under other rules")
        demand(record[8] >= earlier[8], "the high-water mark went back")
        clock, reset, restart, _ = prior[3]
        demand(record[8] >= struct.pack(">IIQ", reset, restart, clock), "a high-water mark is low")

    def _enrolment(self, record: bytes, chain: list[bytes], governance: Any) -> None:
        members = canonical(record)
        ek = tpm_key(members["ek"])
        spki = ek.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        demand(members["id"] == sha256(spki), "the EK's digest is another's")
        demand(members["node"] == sha256(b"bootlease/node/1\0" + spki), "the node id is another's")
        demand(members["name"] == b"\0\x0b" + sha256(members["ak"]), "the AK's name is another's")
        if "endorsement" in members:
            word = members["endorsement"]
            demand(chain and sha256(chain[0]) == word["cert"], "the EK certificate is another")
            root = load_certificate(self.piece("certificates", word["root"]))
            certificates = [load_certificate(der) for der in chain]
            demand(certificates[0].public_key() == ek, "the EK certificate is another key's")
            leads_to(root, certificates, members["at"])
        else:
            demand(chain == [], "certificates ride along")
        if governance is not None:
            written, place = governance
            change = canonical(written)
            demand(change[0] == "bootlease/governance/1", "no governance record")
            kinds = {"node.enrolled", "node.labelled"}
            demand(change[3] in kinds, "the governance record is another's")
            demand(change[4].get("enrolment") == sha256(record), "another enrolment is recorded")
            demand(change[4].get("node") == members["node"], "another node was enrolled")
            where = self._included(cbor2.dumps([sha256(written), None]), place)
            demand(where < self.places[0], "the node enrolled too late")

    def _token(self) -> None:
        claims, record = canonical(self.file["claims"]), self.records[-1]
        for each in self.records:
            demand(each[1].split("://", 1)[1] + "/ledger" == self.ledger.name, "another issuer")
        leases = [each for each in record[21] if each[0] == claims[7]]
        demand(len(leases) == 1, "the lease is not in the record")
        lease = leases[0]
        said = [claims[7], claims[9].split(" "), claims[3], claims[4]]
        demand(said == [lease[0], lease[1], lease[2], lease[4]], "the claims are not the record's")
        prev = [] if record[12] is None else [record[12]]
        expected = {
            1: record[1],
            2: record[2].hex(),
            5: record[3],
            6: record[3],
            -66001: [record[11], record[13], *prev],
            -66003: [record[15], record[16], record[17]],
            -66005: record[5],
            -66006: sha256(self.file["decisions"][-1][0]),
            65535: {
                "status_list": {
                    "idx": int.from_bytes(lease[0][-4:]),
                    "uri": record[1] + "/v1/status",
                }
            },
        }
        for key, value in expected.items():
            demand(claims[key] == value, f"claim {key} is not the record's")
        demand(-66008 not in claims, "the lease was delegated")
        token, receipt = self.file["token"], self.file["receipt"]
        if token is None:
            demand(receipt is None, "a receipt without token")
        elif token[:1] == b"\xd2":
            demand(receipt is None, "a receipt beside a CWT")
            self._cwt(token)
        else:
            self._jwt(token, claims)
            if receipt is not None:
                self._tlog_proof(receipt)

    def _leaf(self) -> tuple[bytes, int, Tree]:
        record, _, _, place = self.file["decisions"][-1]
        return cbor2.dumps([sha256(record), self.lease]), place[1], self.trees[place[0]]

    def _cwt(self, token: bytes) -> None:
        protected, unprotected, payload, signature = canonical(token[1:])
        header = canonical(protected)
        demand(payload == self.file["claims"], "the token says something else")
        demand(header[16].startswith("application/eat+cwt"), "the token is of another type")
        signed = cbor2.dumps(["Signature1", protected, b"", payload])
        self._signed(signature, signed, header[1])
        if unprotected:
            demand(set(unprotected) == {394} and len(unprotected[394]) == 1, "header")
            self._receipt(unprotected[394][0])

    def _receipt(self, data: bytes) -> None:
        leaf, place, tree = self._leaf()
        demand(data[:1] == b"\xd2", "the receipt is no COSE_Sign1")
        protected, unprotected, payload, signature = canonical(data[1:])
        demand(set(unprotected) == {396} and payload is None, "the receipt has another form")
        demand(set(unprotected[396]) == {-1} and len(unprotected[396][-1]) == 1, "one proof")
        size, index, path = canonical(unprotected[396][-1][0])
        point = base64.urlsafe_b64encode(self.ledger.public).decode().rstrip("=")
        jwk = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": point}, separators=(",", ":"))
        expected = {
            1: -8,
            4: sha256(jwk.encode()),
            15: {1: "https://" + tree.origin},
            395: 1,
            -65537: size,
        }
        demand(canonical(protected) == expected, "the receipt's header is another")
        demand(index == place, "the receipt is for another place")
        root = included_root(leaf, index, size, path)
        signed = cbor2.dumps(["Signature1", protected, b"", root])
        ed25519_verify(self.ledger.public, signature, signed, "receipt")

    def _tlog_proof(self, data: bytes) -> None:
        leaf, place, tree = self._leaf()
        head, _, checkpoint = data.partition(b"\n\n")
        lines = head.decode().split("\n")
        demand(lines[0] == "c2sp.org/tlog-proof@v1", "the receipt is no tlog-proof")
        demand(lines[1] == "extra " + base64.b64encode(leaf).decode(), "another leaf")
        demand(lines[2] == f"index {place}", "the receipt is for another place")
        signed = Tree(checkpoint, self.ledger, [])
        demand(signed.origin == tree.origin, "the receipt is of another shard")
        root = included_root(leaf, place, signed.size, [base64_exact(each) for each in lines[3:]])
        demand(root == signed.root, "the receipt does not lead to its root")

    def _jwt(self, token: bytes, claims: dict[int, Any]) -> None:
        parts = token.split(b".")
        demand(len(parts) == 3, "the token is no JWT")
        header, payload, signature = map(base64url, parts)
        names = json.loads(header)
        demand(names["typ"] == "eat+jwt", "the token is of another type")
        # A bearer token says nothing of possession; the others say it so that all must understand.
        possession = [names.get("crit"), names.get("bootlease_pop")]
        demand(
            possession in ([None, None], [["bootlease_pop"], "dpop"]),
            "the header says something else of possession",
        )
        said = json.loads(payload)
        expected = {
            "iss": claims[1],
            "sub": claims[2],
            "aud": claims[3],
            "exp": claims[4],
            "nbf": claims[5],
            "iat": claims[6],
            "scope": claims[9],
            "status": claims[65535],
        }
        for name, value in expected.items():
            demand(said[name] == value, f"{name} is another")
        demand(base64url(said["jti"].encode()) == claims[7], "jti is another")
        for name, value in {
            "bootlease_evidence": claims[-66005],
            "bootlease_decision": claims[-66006],
        }.items():
            demand(base64url(said[name].encode()) == value, f"{name} is another")
        algorithm = {"ES256": -7, "EdDSA": -8}.get(names["alg"], 0)
        self._signed(signature, b".".join(parts[:2]), algorithm)

    def _signed(self, signature: bytes, data: bytes, algorithm: int) -> None:
        for pem in self.token_keys:
            key = load_pem_public_key(pem)
            try:
                if isinstance(key, ec.EllipticCurvePublicKey) and algorithm in {-7, -9}:
                    demand(len(signature) == 64, "a signature has another length")
                    halves = (int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
                    der = encode_dss_signature(*halves)
                    key.verify(der, data, ec.ECDSA(hashes.SHA256()))
                    return
                if isinstance(key, ed25519.Ed25519PublicKey) and algorithm in {-8, -19}:
                    key.verify(signature, data)
                    return
            except InvalidSignature:
                continue
        raise Refused("no token key signed the token")


def quoted_pcrs(attested: bytes, pcrs: dict[int, dict[int, bytes]]) -> None:
    """Demand that PCR values are those that a TPMS_QUOTE_INFO is over."""
    (count,) = struct.unpack_from(">I", attested)
    at, values = 4, b""
    for _ in range(count):
        bank, size = struct.unpack_from(">HB", attested, at)
        bits = int.from_bytes(attested[at + 3 : at + 3 + size], "little")
        chosen = [pcr for pcr in range(8 * size) if bits >> pcr & 1]
        demand(chosen == sorted(pcrs.get(bank, {})), "PCR values of another selection")
        values += b"".join(pcrs[bank][pcr] for pcr in chosen)
        at += 3 + size
    demand(attested[at:] == struct.pack(">H", 32) + sha256(values), "other PCR values were quoted")


HASHES: Final = {4: hashlib.sha1, 11: hashlib.sha256, 12: hashlib.sha384, 13: hashlib.sha512}
"""By TPM_ALG_ID of the bank."""


def ima_state(state: list[Any], listed: bytes, pcrs: dict[int, dict[int, bytes]]) -> list[Any]:
    """Extend PCR 10 by the entries of a list until it has the quoted values."""
    entries, offset, scheme, before = state
    demand(scheme == 0, "an IMA list is replayed otherwise")
    values, at = dict(before), 0
    while any(values[bank] != pcrs[bank][10] for bank in values):
        demand(at < len(listed), "an IMA list does not lead to PCR 10")
        pcr, digest, size = struct.unpack_from("<I20sI", listed, at)
        demand(pcr == 10, "an IMA entry is of another PCR")
        name = listed[at + 28 : at + 28 + size]
        at += 28 + size
        demand(name != b"ima", "the first template is not handled here")
        (size,) = struct.unpack_from("<I", listed, at)
        data = listed[at + 4 : at + 4 + size]
        at += 4 + size
        for bank, value in values.items():
            new = HASHES[bank]
            extended = new(data).digest() if any(digest) else b"\xff" * len(value)
            values[bank] = new(value + extended).digest()
        entries += 1
    return [entries, offset + at, scheme, values]


def base64url(text: bytes) -> bytes:
    """Decode base64url without padding, in its only form."""
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4), b"-_", validate=True)
    except ValueError as exc:
        raise Refused("text is not base64url") from exc
    demand(base64.urlsafe_b64encode(data).rstrip(b"=") == text, "base64url has spare bits")
    return data


def load_certificate(der: bytes) -> x509.Certificate:
    """Parse a certificate."""
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError as exc:
        raise Refused("a certificate does not parse") from exc


def issued(child: x509.Certificate, parent: x509.Certificate) -> bool:
    """Tell whether one certificate issued another."""
    try:
        child.verify_directly_issued_by(parent)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def leads_to(root: x509.Certificate, chain: list[x509.Certificate], at: int) -> None:
    """Demand that a chain, the EK's first, leads to a root, and has nothing that is not needed."""
    last, rest = chain[0], chain[1:]
    while not issued(last, root):
        following = [each for each in rest if issued(last, each)]
        demand(following, "a certificate does not lead to its root")
        last = following[0]
        rest.remove(last)
    demand(not rest, "the chain has a certificate that it does not need")
    for each in (*chain, root):
        begin, end = each.not_valid_before_utc.timestamp(), each.not_valid_after_utc.timestamp()
        demand(begin <= at <= end, "a certificate was not valid when the node enrolled")


def tpm_key(public: bytes) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    """Read the key of a TPMT_PUBLIC."""
    kind, _, _, policy = struct.unpack_from(">HHIH", public)
    at = 10 + policy
    (symmetric,) = struct.unpack_from(">H", public, at)
    at += 2 if symmetric == 0x10 else 6
    (scheme,) = struct.unpack_from(">H", public, at)
    at += 2 if scheme == 0x10 else 4
    if kind == 0x23:
        curve, _, size = struct.unpack_from(">HHH", public, at)
        x = int.from_bytes(public[at + 6 : at + 6 + size])
        y = int.from_bytes(public[at + 8 + size :])
        named = {3: ec.SECP256R1, 4: ec.SECP384R1}[curve]()
        return ec.EllipticCurvePublicNumbers(x, y, named).public_key()
    demand(kind == 1, "a TPM's key is of another kind")
    _, exponent, size = struct.unpack_from(">HIH", public, at)
    modulus = int.from_bytes(public[at + 8 : at + 8 + size])
    return rsa.RSAPublicNumbers(exponent or 65537, modulus).public_key()


def verify_tpm_signature(
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey, signature: bytes, data: bytes
) -> None:
    """Demand a TPMT_SIGNATURE with SHA-256."""
    _, alg, size = struct.unpack_from(">HHH", signature)
    demand(alg == 0x0B, "a quote is signed with another hash")
    first = signature[6 : 6 + size]
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(first, data, padding.PKCS1v15(), hashes.SHA256())
        else:
            second = signature[8 + size :]
            der = encode_dss_signature(int.from_bytes(first), int.from_bytes(second))
            key.verify(der, data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as exc:
        raise Refused("the AK did not sign the quote") from exc


_OTHER_FORMS: Final = (
    *(KeyError, IndexError, TypeError, ValueError, AttributeError),
    *(struct.error, UnsupportedAlgorithm, x509.InvalidVersion),
)


def verify(data: bytes, ledger_vkey: str, token_keys: list[bytes]) -> None:
    """Verify a proof file; raise ``Refused`` with the first thing that is wrong."""
    try:
        Proof(data, ledger_vkey, token_keys).verify()
    # What the layout does not have where it must be: a member, an index, a type, a kind of key.
    except _OTHER_FORMS as exc:
        raise Refused(f"the file has another form: {exc!r}") from exc


if __name__ == "__main__":
    verify(Path(sys.argv[1]).read_bytes(), sys.argv[2], [Path(sys.argv[3]).read_bytes()])
    sys.stdout.write("accepted\n")
