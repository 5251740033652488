"""From a code or a mesh to a picture, with gradients."""
