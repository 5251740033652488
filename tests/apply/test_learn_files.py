"""From photographs to a learned model's file: what is left out, what is refused, and going on."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from mofa_nvdr.apply import kept_steps, learning
from mofa_nvdr.apply import learn_files as module
from mofa_nvdr.apply.fitting import FitOptions
from mofa_nvdr.apply.learn_files import LearnFileOptions, learn_model
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.networks.on_request import NetworkMissingError
from mofa_nvdr.render.pictures import write_png
from mofa_nvdr.system.locks import FolderInUse
from tests.helpers.fake_landmarks import (
    FakeDetector,
    KnownLandmarks,
    install_fake_detector,
    take_networks_away,
)
from tests.helpers.fitted_faces import KnownFaces, known_faces
from tests.helpers.small_crops import use_small_crops
from tests.helpers.symmetric_face import symmetric_face

COUNT, SIZE = 9, 64


class Recorder:
    """In the place of the learner: keeps what it was given and gives the model back."""

    def __init__(self) -> None:
        self.given: list[tuple] = []

    def __call__(self, model, faces, options, keep, say, after):
        self.given.append((faces, options))
        after("landmarks", len(faces), len(faces))
        after("light", 2, 2)
        return lambda: symmetric_face()


@pytest.fixture(autouse=True)
def small(monkeypatch) -> None:
    use_small_crops(monkeypatch, SIZE)


@pytest.fixture
def learner(monkeypatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(module, "ModelLearner", recorder)
    return recorder


@pytest.fixture(scope="module")
def known() -> KnownFaces:
    return known_faces(symmetric_face(), COUNT, SIZE, scale=0.5)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("model") / "cap.safetensors"
    symmetric_face().save(path)
    return str(path)


@pytest.fixture
def detector(monkeypatch) -> FakeDetector:
    return install_fake_detector(monkeypatch)


def picture_of(known: KnownFaces, k: int, number: int) -> np.ndarray:
    """A face with some grain; its top left pixel is its own."""
    pixels = (known.photo[k] * 255).permute(1, 2, 0).numpy()
    grain = np.random.default_rng(number).uniform(-40, 40, (SIZE, SIZE, 1))
    picture = (pixels + grain).clip(0, 250).round().astype(np.uint8)
    picture[0, 0] = (number, 1, 2)
    return picture


def face_of(known: KnownFaces, k: int, score: float = 0.99, scale: float = 1) -> KnownLandmarks:
    dense = np.concatenate([known.dense[k].numpy(), np.zeros((478, 1))], 1)
    return KnownLandmarks(dense * scale, known.landmarks68[k].double().numpy() * scale, score)


@pytest.fixture
def folder(tmp_path, known, detector) -> Path:
    """Photographs 0.png to 8.png."""
    folder = tmp_path / "people"
    folder.mkdir()
    for k in range(COUNT):
        picture = picture_of(known, k, k)
        iio.imwrite(folder / f"{k}.png", picture)
        detector.know(picture, [face_of(known, k)])
    return folder


@pytest.fixture
def options(model_file) -> LearnFileOptions:
    return LearnFileOptions(face_model=model_file, rounds=1, albedo_modes=5, smallest=30)


class TestLearnModel:
    def test_what_is_written(self, folder, options, learner, tmp_path, capsys):
        out = tmp_path / "us.safetensors"
        model = learn_model([folder], out, replace(options, licence="CC0"))
        assert sorted(p.name for p in tmp_path.iterdir()) == ["people", out.name]
        loaded = FaceModel.load(out)
        assert loaded.hash == model.hash and loaded.name == "us"
        assert loaded.metadata["licence"] == "CC0"
        assert "9 photographs of 9 people, fitted first with cap" in loaded.metadata["source"]
        assert "(own work)" in loaded.metadata["source"]
        printed = capsys.readouterr()
        assert f"us {model.hash}: {out} (" in printed.out
        assert "learned from 9 photographs" in printed.out
        assert "9 photographs of 9 people" in printed.err
        ((faces, given),) = learner.given
        assert faces.photo.shape == (COUNT, SIZE, SIZE, 3) and faces.points.shape == (9, 478, 2)
        assert (given.rounds, given.albedo_modes, given.kept_modes) == (1, 5, ())

    def test_really_and_resumed(self, folder, options, tmp_path, monkeypatch, capsys):
        """Stopped after a few steps, the same command goes on and gives the same bits."""
        quick = partial(FitOptions, size=SIZE, points=150)
        monkeypatch.setattr(learning, "FitOptions", quick)
        whole = learn_model([folder], tmp_path / "a.safetensors", options)
        write, left = kept_steps.write_bytes, [3]

        def stop(path, data):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            write(path, data)

        out = tmp_path / "b.safetensors"
        monkeypatch.setattr(kept_steps, "write_bytes", stop)
        with pytest.raises(KeyboardInterrupt):
            learn_model([folder], out, options)
        work = tmp_path / "b.safetensors.learning"
        assert not out.exists() and len(list(work.glob("*.npz"))) == 3
        monkeypatch.setattr(kept_steps, "write_bytes", write)
        model = learn_model([folder], out, options)
        assert model.hash == whole.hash and not work.exists()
        assert f"going on with {work}" in capsys.readouterr().err

    def test_people(self, folder, options, learner, tmp_path):
        """A person's photographs are neighbours; one without a person is another one."""
        table = tmp_path / "people.csv"
        table.write_text("\ufefffile,person\n1.png,ann\n7.png,ann\n3.png,\n", encoding="utf-8")
        learn_model([folder], tmp_path / "m.safetensors", replace(options, people=str(table)))
        faces = learner.given[0][0]
        assert faces.person.tolist() == [0, 1, 1, 2, 3, 4, 5, 6, 7]

    def test_pigments_of_the_procedural_face_stay(self, monkeypatch, model_file, tmp_path):
        """Whatever "default" is; and only where there is room for more."""
        asked = []

        class Learner:
            def __init__(self, model, faces, options, *more) -> None:
                asked.append(options.kept_modes)

            def __call__(self) -> None:
                return None

        monkeypatch.setattr(module, "ModelLearner", Learner)
        cap = FaceModel.load(model_file)
        monkeypatch.setattr(module.FaceModel, "load", lambda name: {"procedural": cap}[name])
        for modes in (80, 4):
            with kept_steps.kept_steps(tmp_path / str(modes), "words") as steps:
                module._learned(cap, None, LearnFileOptions(albedo_modes=modes), steps)
        assert asked == [(0, 1, 10, 11), ()]

    def test_bars_are_closed(self, folder, options, learner, tmp_path, monkeypatch):
        bars = []

        class Bar:
            def __init__(self, total, unit, desc, disable) -> None:
                self.total, self.count, self.closed = total, 0, False
                bars.append(self)

            def update(self, count) -> None:
                assert not self.closed
                self.count += count

            def close(self) -> None:
                self.closed = True

        steps = module._Bars()
        monkeypatch.setattr(module, "tqdm", Bar)
        for words in (("light", 2, 5), ("light", 3, 5), ("colors 1", 7, 7)):
            steps(*words)
        assert bars[0].closed and not bars[1].closed
        steps.close()
        assert [(bar.count, bar.total, bar.closed) for bar in bars] == [(5, 5, True), (7, 7, True)]
        module._Bars().close()


class TestLeftOut:
    @pytest.mark.parametrize(
        ("what", "reason"),
        [
            ("wall", "no face found"),
            ("small", "faces smaller than 30 px (--smallest)"),
            ("uncertain", "uncertain landmarks"),
            ("grey", "without colour"),
            ("soft", "blurred"),
            ("panel", "a panel that mofa-nvdr wrote, not a photograph"),
        ],
    )
    def test_reasons(
        self, folder, options, learner, detector, known, tmp_path, capsys, what, reason
    ):
        picture, face = picture_of(known, 0, 77), face_of(known, 0)
        path = tmp_path / "odd.png"
        if what == "wall":
            picture[0, 0] = 200
        elif what == "small":
            face = face_of(known, 0, scale=0.3)
        elif what == "uncertain":
            face = face_of(known, 0, score=0.5)
        elif what == "grey":
            picture[1:] = picture[1:].mean(2, keepdims=True).astype(np.uint8)
        elif what == "soft":
            picture[1:] = (200, 120, 90)
        if what == "panel":
            write_png(path, picture, kind="panel")
        else:
            iio.imwrite(path, picture)
        if what != "wall":
            detector.know(picture, [face])
        learn_model([folder, path], tmp_path / "m.safetensors", options)
        said = capsys.readouterr().err
        assert f"skipped: {path}: {reason}\n" in said and f"note: 1 left out: {reason}\n" in said
        assert len(learner.given[0][0]) == COUNT

    def test_what_is_no_photograph_is_counted(self, folder, options, learner, tmp_path, capsys):
        write_png(folder / "0_panel.png", np.zeros((4, 4, 3), np.uint8), kind="panel")
        (folder / "notes.docx").write_text("x")
        learn_model([folder], tmp_path / "m.safetensors", options)
        said = capsys.readouterr().err
        assert "note: 2 files not read: 1 .docx, what mofa-nvdr wrote: 1 panel\n" in said

    def test_too_few(self, folder, options, learner, tmp_path):
        some = [folder / f"{k}.png" for k in range(7)]
        with pytest.raises(
            ValueError, match="^model learn: 7 people in usable photographs, expected 8 or more$"
        ):
            learn_model(some, tmp_path / "m.safetensors", options)


class TestRefused:
    @pytest.mark.parametrize(
        ("more", "words"),
        [
            ({"rounds": 0}, "^--rounds is 0, expected 1 or more$"),
            ({"albedo_modes": 0}, "^--albedo-modes is 0, expected 1 or more$"),
            ({"smallest": 0}, "^--smallest is 0, expected 1 or more$"),
            ({"face_model": "none"}, "^face model 'none': no such file"),
            ({"people": "none.csv"}, r"^--people none\.csv: cannot read it \("),
            ({"max_megapixels": 0}, "^--max-megapixels is 0, expected more than 0$"),
        ],
    )
    def test_options(self, folder, options, learner, tmp_path, more, words):
        with pytest.raises(ValueError, match=words):
            learn_model([folder], tmp_path / "m.safetensors", replace(options, **more))
        assert not (tmp_path / "m.safetensors").exists()

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("name,person\n1.png,ann\n", "expected a table with the columns file and person"),
            ("file,person\n", "expected a table with the columns file and person"),
            ("file,person\nx.png,ann\n", r"x\.png is none of the photographs \(such as 0\.png\)"),
            ("file,person\n1.png,a\n1.png,b\n", r"1\.png is there 2 times, expected once"),
        ],
    )
    def test_tables(self, folder, options, learner, tmp_path, text, words):
        table = tmp_path / "p.csv"
        table.write_text(text)
        with pytest.raises(ValueError, match=f"^--people {table}: {words}$"):
            learn_model([folder], tmp_path / "m.safetensors", replace(options, people=str(table)))

    @pytest.mark.parametrize(
        ("out", "words"),
        [
            ("m.npz", r"m\.npz: expected a \.safetensors file"),
            ("none/m.safetensors", "no such folder .*none"),
            ("there.safetensors", "a folder, expected a file"),
        ],
    )
    def test_out(self, folder, options, learner, tmp_path, out, words):
        (tmp_path / "there.safetensors").mkdir()
        with pytest.raises(ValueError, match=f"^--out .*{words}$"):
            learn_model([folder], tmp_path / out, options)

    def test_out_of_another_source(self, folder, options, learner, tmp_path):
        out = tmp_path / "m.safetensors"
        learn_model([folder], out, options)
        learn_model([folder], out, options)  # the same again
        with pytest.raises(ValueError, match=r"--overwrite"):
            learn_model([folder], out, replace(options, rounds=2))
        learn_model([folder], out, replace(options, rounds=2, overwrite=True))
        assert len(learner.given) == 3

    def test_a_folder_that_cannot_be_written(self, folder, options, learner, tmp_path):
        (tmp_path / "m.safetensors.learning").write_text("")
        with pytest.raises(
            ValueError, match=r"^.*m\.safetensors\.learning: a file, where the steps"
        ):
            learn_model([folder], tmp_path / "m.safetensors", options)

    def test_a_full_disk(self, folder, options, learner, tmp_path, monkeypatch):
        def full(path, data) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(kept_steps, "write_bytes", full)
        with pytest.raises(
            ValueError, match=r"faces-0\.npz: cannot write it \(No space left on device\)$"
        ):
            learn_model([folder], tmp_path / "m.safetensors", options)

    def test_steps_of_other_photographs(self, folder, options, learner, tmp_path):
        work = tmp_path / "m.safetensors.learning"
        work.mkdir()
        (work / "origin.txt").write_text("another\n")
        with pytest.raises(
            ValueError, match=f"^{work}: begun with other photographs or options; remove it, or"
        ):
            learn_model([folder], tmp_path / "m.safetensors", options)

    def test_a_damaged_step(self, folder, options, learner, tmp_path, monkeypatch):
        def stop(*words) -> None:
            raise KeyboardInterrupt

        out = tmp_path / "m.safetensors"
        with monkeypatch.context() as patch:
            patch.setattr(module, "ModelLearner", stop)
            with pytest.raises(KeyboardInterrupt):
                learn_model([folder], out, options)
        step = tmp_path / "m.safetensors.learning" / "faces-0.npz"
        step.write_bytes(step.read_bytes()[:300])
        with pytest.raises(ValueError, match=f"^{step}: damaged .*; remove it, and it is made"):
            learn_model([folder], out, options)

    def test_a_table_that_is_no_text(self, folder, options, learner, tmp_path):
        table = tmp_path / "p.csv"
        for data, words in (
            (b"file,person\n\xff,a\n", r"not a text in UTF-8 \(byte 12 is 0xff\)"),
            (b"file,person\n" + b"x" * 200_000, r"cannot read it \(field larger than"),
            (b"file,person\n" + b"x,y\n" * 5_000_000, "more than the 16.8 MB that such a text may"),
        ):
            table.write_bytes(data)
            with pytest.raises(ValueError, match=f"^--people {table}: {words}"):
                learn_model(
                    [folder], tmp_path / "m.safetensors", replace(options, people=str(table))
                )

    def test_two_at_once(self, folder, options, learner, tmp_path):
        """The second one ends at once, and the first one's steps stay."""
        out = tmp_path / "m.safetensors"
        with kept_steps.kept_steps(out, "mofa-nvdr model learn") as steps:
            steps.begin("the first")
            with pytest.raises(
                FolderInUse, match=r"m\.safetensors\.learning: process .*is writing"
            ):
                learn_model([folder], out, options)
            assert (steps.folder / "origin.txt").read_text() == "the first\n"
        assert not out.exists()

    def test_no_input(self, options, learner, tmp_path):
        with pytest.raises(ValueError, match="^model learn: no input; give image files"):
            learn_model([], tmp_path / "m.safetensors", options)

    def test_without_networks(self, folder, options, tmp_path, monkeypatch):
        take_networks_away(monkeypatch)
        with pytest.raises(NetworkMissingError):
            learn_model([folder], tmp_path / "m.safetensors", options)
