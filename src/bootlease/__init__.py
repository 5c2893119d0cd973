"""Execution authorization from measured boot.

A node proves with its TPM what it booted; a verifier appraises the proof against
reference values and answers with a short-lived execution token (RFC 9334 roles:
attester, verifier, relying party).

The arrows of the package, which a test enforces::

    errors, model  <-  formats  <-  decisions  <-  ports  <-  shells
"""

__version__ = "0.1.0"
