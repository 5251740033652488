"""A stand-in for nvdiffrast on the stand-in for a GPU."""
