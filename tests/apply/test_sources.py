"""Names of results: as the photographs lie, each of its own, whatever a file system takes for one."""

import pytest

from mofa_nvdr.apply.sources import name_sources


@pytest.fixture
def names(tmp_path):
    """The sources' names and results for inputs below tmp_path: folders with their files, or files."""

    def function(*inputs: str) -> list[tuple[str, str]]:
        groups = []
        for text in inputs:
            given = tmp_path / text
            files = sorted(p for p in given.rglob("*") if p.is_file()) or [given]
            groups.append((given, files))
        return [(source.name, source.result) for source in name_sources(groups)]

    return function


@pytest.fixture
def write(tmp_path):
    def function(*files: str) -> None:
        for file in files:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_bytes(b"")

    return function


class TestNameSources:
    def test_one_folder(self, names, write):
        write("people/alice/0001.jpg", "people/bob/0001.jpg", "people/x.y.png")
        assert names("people") == [
            ("alice/0001.jpg", "alice/0001"),
            ("bob/0001.jpg", "bob/0001"),
            ("x.y.png", "x.y"),
        ]
        assert names("people/alice") == [("0001.jpg", "0001")]

    def test_several_inputs_are_the_same_as_the_folder_that_holds_them(self, names, write):
        write("people/alice/0001.jpg", "people/bob/0001.jpg", "people/x.png")
        assert names("people/alice", "people/bob", "people/x.png") == names("people")

    def test_folders_of_one_name(self, names, write):
        write("a/frames/1.png", "b/frames/1.png")
        assert names("a/frames", "b/frames") == [
            ("frames/1.png", "frames/1"),
            ("frames-2/1.png", "frames-2/1"),
        ]

    def test_endings(self, names, write):
        write("p/x.png", "p/x.tif", "p/y.png")
        assert [result for _, result in names("p")] == ["x.png", "x.tif", "y"]

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ("A.jpg", "a.jpg"),
            ("Alice/1.jpg", "alice/1.jpg"),
            ("\u00e9.jpg", "e\u0301.jpg"),  # composed and decomposed
            ("STRASSE.jpg", "stra\u00dfe.jpg"),
        ],
    )
    def test_names_that_are_one_file_on_many_systems(self, names, write, first, second):
        write(f"p/{first}", f"p/{second}")
        results = [result for _, result in names("p")]
        assert sorted(results) == sorted([sorted([first, second])[0], f"{max(first, second)}-2"])
        assert len({result.casefold() for result in results}) == 2

    def test_a_name_that_an_ending_would_make(self, names, write):
        write("p/x.png", "p/x.tif", "p/x.png.jpg")
        results = [result for _, result in names("p")]
        assert len(set(results)) == 3 and set(results) == {"x.png", "x.png-2", "x.tif"}

    def test_what_is_reached_twice_comes_once(self, names, write, tmp_path):
        write("p/more/c.png", "p/a.png")
        assert names("p", "p") == names("p") == [("a.png", "a"), ("more/c.png", "more/c")]
        assert names("p/more/c.png", "p") == [("c.png", "c"), ("p/a.png", "p/a")]

    def test_the_working_directory(self, names, write, tmp_path, monkeypatch):
        write("p/a.png", "x.png")
        monkeypatch.chdir(tmp_path / "p")
        from pathlib import Path

        groups = [(".", [Path("a.png")]), ("../x.png", [Path("../x.png")])]
        assert [source.result for source in name_sources(groups)] == ["p/a", "x"]
