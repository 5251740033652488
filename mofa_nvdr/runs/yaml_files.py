"""YAML as configurations need it: a small table, read without surprises; every error names the file."""

from __future__ import annotations

from typing import Any

import yaml

from mofa_nvdr.runs.options import ConfigError
from mofa_nvdr.system.budget import MOST_DEPTH, words_of

_MOST_NODES = 10_000  # the largest configuration has some hundred
_MOST_CHARACTERS = 1_000_000


def load_yaml(name: str, text: str) -> dict[str, Any]:
    """The table in a YAML text; an empty text is an empty table.

    Args:
        name: the file, for messages.
        text: its content.

    Raises:
        ConfigError: not YAML, no table at its top, or nested or repeated beyond any configuration.
    """
    try:
        if len(text) > _MOST_CHARACTERS:
            raise ConfigError(f"{name}: more than {_MOST_CHARACTERS} characters in it")
        _check(name, text)
        values = yaml.safe_load(text)
    except ConfigError:
        raise
    except Exception as error:  # yaml's own, and what int() and datetime() say of their values
        raise ConfigError(f"{name}: not valid YAML ({words_of(error, 300)})") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"{name}: expected groups of 'key: value' lines, got a {type(values).__name__}"
        )
    return values


def _check(name: str, text: str) -> None:
    """Count values as they would be written out: an alias costs as much as what it stands for."""
    sizes: dict[str, int] = {}  # of what has an anchor
    open_: list[tuple[str | None, int]] = []  # anchor and count at the beginning of each open value
    count = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        anchor = getattr(event, "anchor", None)
        if isinstance(event, yaml.AliasEvent):
            count += sizes.get(str(anchor), 1)
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if anchor:
                sizes[anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_.append((anchor, count))
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            if anchor:
                sizes[anchor] = count - before
        if count > _MOST_NODES:
            raise ConfigError(f"{name}: more than {_MOST_NODES} values in it, aliases written out")
        if len(open_) > MOST_DEPTH:
            raise ConfigError(f"{name}: values within values, more than {MOST_DEPTH} deep")
