"""An encoder's folder -> a converted folder: weights, tokenizer without padding or truncation, manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearhit._errors import ModelFormatError
from nearhit.models.conversion import bert, save
from nearhit.models.files import storage_errors
from nearhit.models.manifest import Manifest

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer

    from nearhit.models.conversion import Quantization
    from nearhit.models.progress import Progress
    from nearhit.models.source import Source


def write_encoder(source: Source, folder: Path, quantization: Quantization, progress: Progress) -> Manifest:
    """Converts a BERT encoder in the sentence-transformers layout.

    Raises:
        ModelFormatError: The architecture is unknown, or the files are inconsistent.
        StorageError: The file system refused.
    """
    config = bert.read_config(source.path)
    architecture = str(config.get("model_type"))
    if architecture != "bert":
        raise ModelFormatError(
            f"{source.path} has architecture {architecture!r}; only 'bert' encoders (safetensors) and "
            "'llama' generators (GGUF) can be converted"
        )
    settings = bert.read_settings(source.path, config)
    tokenizer = _load_tokenizer(source.path / "tokenizer.json")
    vocabulary = sorted(tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])
    if [number for _, number in vocabulary] != list(range(len(vocabulary))):
        raise ModelFormatError(f"{source.path / 'tokenizer.json'} has gaps in its token ids")
    spec = bert.build(source.path, config, [token for token, _ in vocabulary])
    progress("convert", 1, 3)
    save(spec, folder, quantization)
    progress("convert", 2, 3)
    # A tokenizer file may ask for padding to a fixed length, which makes every short text as slow as the longest one.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    with storage_errors(folder):
        (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    manifest = Manifest(
        name=source.name,
        kind="encoder",
        architecture=architecture,
        quantization=quantization,
        content=source.content(),
        max_length=settings.max_length,
        dim=int(config["hidden_size"]),
        pooling=settings.pooling,
        normalise=settings.normalise,
    )
    manifest.write(folder)
    progress("convert", 3, 3)
    return manifest


def _load_tokenizer(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer  # noqa: PLC0415 - kept out of `import nearhit`

    if not path.is_file():
        raise ModelFormatError(f"{path} is missing: the model cannot be used without its tokenizer")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:
        raise ModelFormatError(f"{path} is not a tokenizer: {error}") from error
