"""`python -m mofa_nvdr` is the same program as `mofa-nvdr`."""

from mofa_nvdr.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
