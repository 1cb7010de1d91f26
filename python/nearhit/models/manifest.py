"""nearhit.json: what a converted model says about itself."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Self

from nearhit._errors import ModelFormatError
from nearhit.models.files import storage_errors

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME = "nearhit.json"

CONVERTER_VERSION = 1
"""Raised whenever the same source would be converted into something else; older conversions are then made anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Description of a converted model folder, kept in its nearhit.json.

    Attributes:
        name: The model's name.
        kind: "encoder" gives vectors, "generator" gives text.
        architecture: "bert" or "llama".
        quantization: Type of the stored weights.
        content: SHA-256 over the source files.
        converter: Version of the converter that made it.
        max_length: Longest input in tokens, special tokens included.
        dim: Width of the hidden states.
        pooling: "mean" or "cls"; None for a generator.
        normalise: Whether the model's own configuration asks for unit vectors.
        chat_template: The Jinja template of a generator's chat format.
        bos_token: First token of a generator's input, where it wants one.
        eos_tokens: Tokens that end a generator's answer.
        files: Sizes of the other files in bytes; a folder that disagrees is not used.
    """

    name: str
    kind: Literal["encoder", "generator"]
    architecture: str
    quantization: str
    content: str
    max_length: int
    dim: int
    converter: int = CONVERTER_VERSION
    pooling: Literal["mean", "cls"] | None = None
    normalise: bool = True
    chat_template: str | None = None
    bos_token: str | None = None
    eos_tokens: tuple[str, ...] = ()
    files: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads the manifest of a converted model and checks that its files are complete.

        Raises:
            ModelFormatError: There is no manifest, it cannot be read, or a file is missing or of another size.
        """
        path = folder / FILE_NAME
        if not path.is_file():
            raise ModelFormatError(
                f"{folder} is not a converted model: it has no {FILE_NAME}; make it with `nearhit convert`"
            )
        try:
            with storage_errors(path):
                raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            known = {f.name for f in fields(cls)}
            manifest = cls(**{key: value for key, value in raw.items() if key in known})
            object.__setattr__(manifest, "eos_tokens", tuple(manifest.eos_tokens))
            manifest._check()
        except (ValueError, TypeError, AttributeError) as error:
            raise ModelFormatError(f"{path} cannot be read: {error}; convert the model again") from error
        for name, size in manifest.files.items():
            file = folder / name
            found = file.stat().st_size if file.is_file() else None
            if found != size:
                state = "is missing" if found is None else f"has {found} bytes instead of {size}"
                raise ModelFormatError(f"{file} {state}; convert the model again")
        return manifest

    def _check(self) -> None:
        """Raises ValueError where a value is not what the rest of nearhit relies on."""
        for name in ("max_length", "dim", "converter"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} = {value!r}")
        for name, known in (("kind", ("encoder", "generator")), ("pooling", ("mean", "cls", None))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} = {getattr(self, name)!r}")
        if not all(isinstance(text, str) for text in (self.name, self.quantization, self.content, *self.eos_tokens)):
            raise ValueError("a name that is no text")

    def write(self, folder: Path) -> None:
        """Writes the manifest beside the finished files of a converted model, recording their sizes.

        Raises:
            StorageError: The file system refused.
        """
        path = folder / FILE_NAME
        sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir()) if file.name != FILE_NAME}
        with storage_errors(path):
            path.write_text(json.dumps({**asdict(self), "files": sizes}, indent=2) + "\n", encoding="utf-8")
