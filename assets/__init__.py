"""Data files of mofa_nvdr.assets; read them with importlib.resources."""
