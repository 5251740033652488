"""Shading programs: pure functions of a G-buffer and a light, each beside its plain-torch twin."""
