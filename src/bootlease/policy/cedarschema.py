"""The Cedar schema of authorization: what a policy may ask of a node, a scope and a lease.

Specification: Cedar schema syntax, version 4. States that are one of a few are enumerated entities
and no strings, so that a misspelt one is an error when a policy is read and no rule that never
matches. ``Scope`` has no attributes: which names a wildcard stands for is then decided exactly
(``authorization``). Published as ``docs/policy.cedarschema``.
"""

from __future__ import annotations

from typing import Final

CEDAR_SCHEMA: Final = """\
// What a node may be granted, over what was proven of it. Default deny; forbid wins.

// A scope name. A name is in every wildcard that covers it: Scope::"repo:acme/x" is in
// Scope::"repo:acme/*" and in Scope::"repo:*". A requested wildcard is granted only if every name
// that it stands for is.
entity Scope in [Scope];

// Worst tier of the attestation result (AR4SI).
entity Tier enum ["none", "affirming", "warning", "contraindicated"];

// Secure Boot, as the attested log proves it in every bank that was quoted.
entity SecureBoot enum ["on", "off", "unknown"];

// Where the private half of the key lives that the lease is bound to. "tpm-expiring" is in the TPM
// as "tpm" is, and the TPM lets nobody use it without the permit that comes with each lease.
entity KeyProtection enum ["tpm", "process", "tpm-expiring"];

// A node, named by its id: 64 lower-case hex digits. Facts of this attestation, and what an
// operator or a manufacturer said of the node. Whatever the node says of itself is not here.
entity Node = {
  tier: Tier,
  // AR4SI trustworthiness claims (-128 to 127); one that is not made is absent.
  vector: {
    instance_identity?: Long,
    configuration?: Long,
    executables?: Long,
    file_system?: Long,
    hardware?: Long,
    runtime_opaque?: Long,
    storage_opaque?: Long,
    sourced_data?: Long,
  },
  // Names, and SHA-256 digests in hex, of the reference sets that the boot matched.
  references: Set<String>,
  reference_digests: Set<String>,
  secure_boot: SecureBoot,
  // The files that the running system loaded were appraised too, and none refused.
  ima_appraised: Bool,
  // A manufacturer's certificate vouches for the TPM; only then it has a make.
  endorsed: Bool,
  vendor?: String,
  model?: String,
  firmware?: String,
  // What an operator says of the node, such as "role=build".
  labels: Set<String>,
  // The TPM's counters at the quote.
  reset_count: Long,
  restart_count: Long,
  // Seconds since the lineage's first decision; 0 for a new one. When a machine booted, no quote
  // says.
  lineage_age: Long,
};

action lease appliesTo {
  principal: Node,
  resource: Scope,
  context: {
    audience: String,
    key_protection: KeyProtection,
  },
};
"""
