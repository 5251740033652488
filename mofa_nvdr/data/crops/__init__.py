"""Finds and frames the faces of photographs."""
