"""The node: its TPM, its logs and its agent."""
