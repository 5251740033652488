"""Shading programs: pure functions of a G-buffer and a light, each next to its plain-torch twin."""
