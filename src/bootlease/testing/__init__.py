"""Simulated TPMs, simulated boots and pytest fixtures, for this project and for others.

Nothing is imported here: ``pytest`` loads :mod:`bootlease.testing.plugin` in every project that
has bootlease installed, and must not pay for a TPM stack that it does not use.
"""
