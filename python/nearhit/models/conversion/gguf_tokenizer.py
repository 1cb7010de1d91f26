"""The byte-level BPE tokenizer of a GGUF file, rebuilt from its metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearhit._errors import ModelFormatError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from nearhit.models.conversion.gguf_file import GgufFile

_CONTROL, _USER_DEFINED = 3, 4
_DIGITS_APART = frozenset({"smollm", "starcoder", "refact", "command-r"})
_PLAIN = frozenset({"default", "gpt-2", "gpt2"})
"""Pre-tokenisers by their llama.cpp names: GPT-2's splitting, with or without every digit on its own."""


def rebuild(file: GgufFile) -> tuple[Tokenizer, list[str]]:
    """Rebuilds a GGUF's tokenizer.

    Returns:
        The tokenizer, and its tokens in the order of their ids.

    Raises:
        ModelFormatError: Its kind or its way of splitting text is not supported, or its parts do not fit together.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers  # noqa: PLC0415 - only used here

    kind, splitting = file.required("tokenizer.ggml.model"), file.metadata("tokenizer.ggml.pre", "default")
    if kind != "gpt2":
        raise ModelFormatError(
            f"{file.path} has a tokenizer of kind {kind!r}; only 'gpt2' (byte-level BPE) is supported"
        )
    if not isinstance(splitting, str) or splitting not in _DIGITS_APART | _PLAIN:
        known = ", ".join(sorted(_DIGITS_APART | _PLAIN))
        raise ModelFormatError(f"{file.path} splits text the {splitting!r} way, which is not supported; known: {known}")
    tokens = file.strings("tokenizer.ggml.tokens")
    types = file.metadata("tokenizer.ggml.token_type", [1] * len(tokens))
    merges = [merge.partition(" ")[::2] for merge in file.strings("tokenizer.ggml.merges")]
    typed = isinstance(types, list) and len(types) == len(tokens)
    if not typed or len(set(tokens)) != len(tokens) or not all(left and right for left, right in merges):
        raise ModelFormatError(f"{file.path} has a tokenizer whose tokens, types and merges do not fit together")
    try:
        vocabulary = {token: number for number, token in enumerate(tokens)}
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    except Exception as error:
        raise ModelFormatError(f"{file.path} has a tokenizer that cannot be rebuilt: {error}") from error
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    digits = [pre_tokenizers.Digits(individual_digits=True)] if splitting in _DIGITS_APART else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*digits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    pairs = list(zip(tokens, types, strict=True))
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token, type_ in pairs if type_ == _CONTROL]
    )
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token, type_ in pairs if type_ == _USER_DEFINED])
    return tokenizer, tokens
