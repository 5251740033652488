"""Data files of mofa_nvdr.configs; read them with importlib.resources."""
