"""Containers and mesh files, read safely."""
