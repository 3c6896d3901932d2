"""The secure computation: add shared vectors, add noise sampled inside, reveal."""
