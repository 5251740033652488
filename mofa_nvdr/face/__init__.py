"""The code vector and the face model."""
