"""A generator's GGUF file -> a converted folder: weights, rebuilt tokenizer, chat template, stop tokens, manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearhit._errors import ModelFormatError
from nearhit.models.conversion import gguf_tokenizer, llama, save
from nearhit.models.conversion.gguf_file import GgufFile
from nearhit.models.files import storage_errors
from nearhit.models.manifest import Manifest

if TYPE_CHECKING:
    from pathlib import Path

    from nearhit.models.conversion import Quantization
    from nearhit.models.progress import Progress
    from nearhit.models.source import Source


def write_generator(
    source: Source, file: Path, folder: Path, quantization: Quantization, progress: Progress
) -> Manifest:
    """Converts a Llama-family generator.

    Raises:
        MissingDependencyError: The file has tensors of a rare type, and the extra `convert` is not installed.
        ModelFormatError: The architecture is unknown, or the file is inconsistent.
        StorageError: The file system refused.
    """
    gguf = GgufFile(file)
    architecture = gguf.required("general.architecture")
    if architecture != "llama":
        raise ModelFormatError(f"{file} has architecture {architecture!r}; only 'llama' can be converted from GGUF")
    tokenizer, tokens = gguf_tokenizer.rebuild(gguf)
    spec = llama.build(gguf, tokens)
    progress("convert", 1, 3)
    save(spec, folder, quantization)
    progress("convert", 2, 3)
    with storage_errors(folder):
        (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    template = gguf.metadata("tokenizer.chat_template")
    if template is not None and not isinstance(template, str):
        raise ModelFormatError(f"{file} has a chat template that is no text")
    eos = llama.token_of(gguf, tokens, "eos")
    manifest = Manifest(
        name=source.name,
        kind="generator",
        architecture=architecture,
        quantization=quantization,
        content=source.content(),
        max_length=gguf.positive("llama.context_length"),
        dim=gguf.positive("llama.embedding_length"),
        normalise=False,
        chat_template=template,
        bos_token=llama.token_of(gguf, tokens, "bos") if gguf.metadata("tokenizer.ggml.add_bos_token", True) else None,
        eos_tokens=() if eos is None else (eos,),
    )
    manifest.write(folder)
    progress("convert", 3, 3)
    return manifest
