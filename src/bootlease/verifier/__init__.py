"""The verifier as a service: enrolment, challenges, leases, and what the operator does, over HTTP.

``service`` puts together what decides, which knows nothing of HTTP; ``app`` and ``routes`` carry
it. docs/protocol.md is the specification of what is carried.

- ``enrolling`` lets nodes in, ``leasing`` answers evidence, ``delegation`` passes leases on;
- ``continuity`` ends leases before their time and says so, ``securityevents`` tells who listens;
- ``operators`` says who may do what, ``registry`` holds what they decided.
"""
