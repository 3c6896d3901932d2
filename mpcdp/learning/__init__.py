"""What an owner computes from its rows, how far one record can move it, and how a release becomes the next model."""
