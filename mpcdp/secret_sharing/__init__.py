"""Additive secret sharing over Z_2^64: encode to the ring, mask, reconstruct."""
