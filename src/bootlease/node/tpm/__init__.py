"""The node's TPM: the device behind ``ports.TPMDevice``, its keys, and how they are made and found.

Only this package speaks to tpm2-tss, so only it needs the extra ``bootlease[node]``: import its
modules where a TPM is opened, not where the agent is named.
"""
