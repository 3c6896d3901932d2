"""How fast the noise and the rounds are: real processes on loopback, beside what else there is."""
