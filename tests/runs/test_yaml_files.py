"""YAML read without surprises; every error names the file."""

import pytest

from mofa_nvdr.runs.options import ConfigError
from mofa_nvdr.runs.yaml_files import load_yaml


class TestLoadYaml:
    def test_tables(self):
        assert load_yaml("a", "run: {steps: 3}\nloss:\n  mirror: 0.1\n") == {
            "run": {"steps": 3},
            "loss": {"mirror": 0.1},
        }
        assert load_yaml("a", "# nothing\n") == {}
        assert load_yaml("a", "x: &a {y: 1}\nz: *a\n") == {"x": {"y": 1}, "z": {"y": 1}}

    def test_aliases_cost_what_they_stand_for(self):
        lines = ["b0: &b0 [x, x]"] + [
            f"b{k}: &b{k} [{', '.join([f'*b{k - 1}'] * 9)}]" for k in range(1, 12)
        ]
        with pytest.raises(
            ConfigError, match="^a.yaml: more than 10000 values in it, aliases writt"
        ):
            load_yaml("a.yaml", "\n".join(lines))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[1, 2]", "expected groups of 'key: value' lines, got a list"),
            ("a: [", "not valid YAML"),
            ("steps: 2024-99-99", "not valid YAML (month must be in 1..12)"),
            ("steps: " + "9" * 5000, "not valid YAML"),
            ("a: " + "[" * 10_000, "values within values, more than 64 deep"),
            ("a: !!python/object:os.system x", "not valid YAML"),
            ("? [a]\n: b", "not valid YAML"),
            ("a: \x1b", "not valid YAML"),
            ("a: *b", "not valid YAML"),
            ("#" + "x" * 1_000_001, "more than 1000000 characters in it"),
        ],
    )
    def test_refused(self, text, message):
        with pytest.raises(ConfigError) as error:
            load_yaml("folder/a.yaml", text)
        said = str(error.value)
        assert said.startswith(f"folder/a.yaml: {message}"), said
        assert len(said.splitlines()) == 1 and "\x1b" not in said
