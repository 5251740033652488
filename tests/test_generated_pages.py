"""docs/options.md and docs/api.md are what docs/make_pages.py writes."""

import runpy
from pathlib import Path

import pytest

import mofa_nvdr
from mofa_nvdr.runs.config import load_config
from mofa_nvdr.runs.options import flag, options

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = runpy.run_path(str(DOCS / "make_pages.py"))["PAGES"]


@pytest.mark.parametrize("name", sorted(PAGES))
def test_page_is_up_to_date(name):
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), (
        f"docs/{name} is not what the code says; run python docs/make_pages.py"
    )


def test_every_option_has_a_row_with_words():
    rows = [line for line in PAGES["options.md"]().splitlines() if line.startswith("| `")]
    assert len(rows) == len(options(load_config()))
    for row, name in zip(rows, options(load_config())):
        option, command, _, meaning = (cell.strip() for cell in row.strip("|").split("|"))
        assert option.strip("`") == name and command == f"`--{flag(name)}`" and len(meaning) > 3


def test_every_public_name_has_a_section():
    page = PAGES["api.md"]()
    for name in mofa_nvdr.__all__:
        if name != "__version__":
            assert f"\n## {name}\n" in page
    assert "/site-packages/" not in page and "at 0x" not in page
