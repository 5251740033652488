"""Runs as rows: their names, and what cannot stand in one table."""

from __future__ import annotations

import pytest

from mofa_nvdr.runs.rows import facts_of, load_rows, one_face_model


def test_names(smoke_run):
    run, cap = str(smoke_run[0]), smoke_run[1]
    assert list(load_rows([run], cap, "cpu")) == ["this encoder"]
    two = load_rows([run, f"{run}/best.safetensors"], cap, "cpu")
    assert list(two) == [run, f"{run}/best.safetensors"] and one_face_model(two) == "cap"
    facts = facts_of(two)["encoders"]
    assert facts[run]["file"] == "checkpoint-00000004.safetensors"
    assert facts[f"{run}/best.safetensors"]["file"] == "best.safetensors"


def test_the_encoder_in_the_package():
    (name, run), *more = load_rows([], device="cpu").items()
    assert name == "this encoder" and not more
    assert facts_of({name: run})["encoders"][name]["face_model"] == "portraits"


def test_mistakes(smoke_run):
    with pytest.raises(ValueError, match="evaluate: a is given twice"):
        load_rows(["a", "b", "a"])
    two = load_rows([], device="cpu") | load_rows([str(smoke_run[0])], smoke_run[1], "cpu")
    assert len(two) == 1  # of one name
    runs = dict(zip("ab", (*load_rows([], device="cpu").values(), *two.values())))
    with pytest.raises(ValueError, match="rendered people are of one"):
        one_face_model(runs)
