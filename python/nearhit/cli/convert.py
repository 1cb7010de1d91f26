"""Convert a model to CTranslate2, without torch.

Takes a folder with a BERT encoder (safetensors, in the sentence-transformers layout or plain), a Llama-family generator
in GGUF, or the name of a fetched model. nearhit converts by itself what it needs; this command is for folders to keep.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from nearhit.cli import Subparsers


def register(subparsers: Subparsers) -> None:
    """Adds `nearhit convert`."""
    parser = subparsers.add_parser("convert", help="convert a model to CTranslate2, without torch", description=__doc__)
    parser.add_argument("model", metavar="MODEL_DIR", help="model folder, GGUF file, or name of a fetched model")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to make")
    parser.add_argument("--quantization", default="int8", choices=("int8", "float16", "float32"), help="default: int8")
    parser.add_argument("--force", action="store_true", help="replace OUT if it is a converted model")


def run(args: argparse.Namespace) -> int:
    """Runs `nearhit convert`."""
    from nearhit import models
    from nearhit.cli import _output
    from nearhit.cli._progress import following

    source = models.find(args.model)
    with following(source.name) as progress:
        out = models.convert(source, args.out, args.quantization, overwrite=args.force, progress=progress)
    manifest = models.Manifest.read(out)
    size = sum(manifest.files.values()) / 1e6
    _output.note(
        f"{manifest.architecture} {manifest.kind}, {manifest.dim} wide, {manifest.quantization}, {size:.1f} MB"
    )
    print(out)
    return 0
