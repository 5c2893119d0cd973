"""The verifier as a service: enrolment, challenges, leases, and what the operator does, over HTTP.

``service`` decides what happens, knowing nothing of HTTP; ``app`` carries it. docs/protocol.md is
the specification of what is carried.
"""
