"""The verifier's HTTP interface: one module for each group of routes, and what they share.

Here requests become calls of what decides, and its answers become responses. Nothing of the
verifier but this package, ``app`` and ``bodies`` knows of the web framework.
"""
