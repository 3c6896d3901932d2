"""Messages generated from ``protos/mpcdp/pb``; see the comments there. Regenerate with ``make protos``."""
