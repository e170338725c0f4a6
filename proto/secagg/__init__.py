"""Secure aggregation, the arithmetic that both ends share: keys, shares of secrets, masks, rings.

The protocol is that of Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine
Learning" (CCS 2017, figure 4) without signatures; client/secure_aggregation.py says what it protects from.
Primitives come from `cryptography` and `pycryptodome`; a run that does not ask for it imports none of it.
"""
