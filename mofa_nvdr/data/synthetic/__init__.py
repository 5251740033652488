"""Renders faces whose codes are known."""
