"""Shaders: pure functions of a G-buffer and a light with their plain-torch twins, and the pass that draws."""
