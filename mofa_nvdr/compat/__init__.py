"""Drop-ins for the renderers that people already call: docs/replace_your_renderer.md."""
