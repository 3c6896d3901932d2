"""How fast the noise is: real processes on loopback, beside CrypTen's own samplers and published figures."""
