"""Which face model a checkpoint or a parameter file is for, and how to find it again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mofa_nvdr.face.model import BUILT_IN, FaceModel


@dataclass(frozen=True)
class ModelReference:
    """A face model by name and content.

    Attributes:
        name: the model's name.
        hash: FaceModel.hash, its content.
        file: where it was: an absolute path, the name of a built-in face, or empty where it is unknown.
    """

    name: str
    hash: str
    file: str = ""

    @staticmethod
    def of(model: FaceModel, given: str) -> ModelReference:
        """The reference of a model that was loaded from `given`, as FaceModel.load takes it."""
        file = model.name if given in BUILT_IN else str(Path(given).absolute())
        return ModelReference(model.name, model.hash, file)

    def __str__(self) -> str:
        return f"{self.name} ({self.hash})"

    def check(self, model: FaceModel, who: str) -> None:
        """Raise ValueError unless `model` has this content.

        Args:
            model: the one that is there.
            who: beginning of the message up to a preposition: "face.npz: parameters of".
        """
        if not model.has_codes_of(self.hash):
            where = "" if self.file in ("", *BUILT_IN) else f", which was {self.file}"
            raise ValueError(
                f"{who} face model {self}{where}, not {who.split()[-1]} {model.name} ({model.hash}); "
                "give theirs as --face-model"
            )

    def load(self, given: str, near: Path, who: str) -> tuple[FaceModel, ModelReference]:
        """Load the model that this refers to.

        Args:
            given: the user's --face-model; empty: look for it where it was, then by its file's name in
                `near` and the folder above.
            near: folder of the file that holds this reference.
            who: beginning of messages, as in `check`.

        Returns:
            the model, and a reference that tells where it was found.

        Raises:
            ValueError: it is not there, or what is there has another content.
        """
        if not given and self.file in ("", *BUILT_IN):
            model, place = self._built_in(who)
        else:
            place = given or self._place(near, who)
            model = FaceModel.load(place)
        self.check(model, who)
        return model, ModelReference.of(model, place)

    def _built_in(self, who: str) -> tuple[FaceModel, str]:
        """The built-in face with this content and its name, or one of the same name."""
        # "default" was another face in earlier versions, and yet earlier ones named no file.
        for name in sorted(BUILT_IN[1:], key=lambda name: name != self.file):
            model = FaceModel.load(name)
            if model.has_codes_of(self.hash):
                return model, name
        if self.file:
            return FaceModel.load(self.file), self.file
        raise ValueError(f"{who} face model {self}; give it as --face-model")

    def _place(self, near: Path, who: str) -> str:
        name = Path(self.file).name
        for place in (Path(self.file), near / name, near.parent / name):
            if place.is_file():
                return str(place)
        raise ValueError(
            f"{who} face model {self}, which was {self.file} and is not there; give it as --face-model"
        )
