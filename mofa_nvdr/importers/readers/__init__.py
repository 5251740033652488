"""Face models of others, one module a format."""
