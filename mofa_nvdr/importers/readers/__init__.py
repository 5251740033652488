"""Face models of other projects, one module for each format."""
