"""Tokens of a local generator: messages in, text out."""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING

from nearhit._errors import ModelFormatError, RequestError
from nearhit.tiers.chat import ChatTemplate, flatten

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tokenizers import Tokenizer

    from nearhit._types import Message
    from nearhit.models import Manifest

_TURN_ENDS = ("<|im_end|>", "<|im_start|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "<end_of_turn>", "</s>")
"""Control tokens with which an answer ends, by the names that model families have given them."""

_MARKS = "".join(map(chr, range(0xFDD0, 0xFDF0)))
"""Unicode noncharacters, reserved for uses such as the one in `ChatTokeniser.encode`."""


class ChatTokeniser:
    """Turns chat messages into a generator's tokens.

    A control token spelled out inside a message stays text: no message can close its own turn and open another's.

    Args:
        folder: Converted model with a tokenizer.json.
        manifest: The model's description.
        template: Chat template to use in place of the model's own.

    Raises:
        ModelFormatError: The tokenizer cannot be read, is not byte-level, or has no token that ends an answer.
    """

    def __init__(self, folder: Path, manifest: Manifest, *, template: str | None = None) -> None:
        self._tokenizer = _load(folder)
        added = self._tokenizer.get_added_tokens_decoder()
        control = {token.content for token in added.values() if token.special}
        ends = dict.fromkeys(token for token in (*manifest.eos_tokens, *_TURN_ENDS) if token in control)
        if not ends:
            raise ModelFormatError(f"{manifest.name} names no control token that ends an answer; convert it again")
        self.ends: tuple[str, ...] = tuple(ends)
        self.end_ids = frozenset(number for number, token in added.items() if token.content in ends)
        self._texts = {number: b"" if token.special else token.content.encode() for number, token in added.items()}
        self._control = re.compile("(" + "|".join(map(re.escape, sorted(control, key=len, reverse=True))) + ")")
        self._bos = manifest.bos_token
        self._template = ChatTemplate(
            manifest.chat_template if template is None else template,
            bos_token=manifest.bos_token,
            eos_token=next(iter(manifest.eos_tokens), None),
        )

    def encode(self, messages: Sequence[Message]) -> list[str]:
        """Returns the tokens of a conversation, up to where the answer begins.

        Raises:
            RequestError: A content that is no text, a lone surrogate, or messages that the template refuses.
        """
        flat = flatten(messages)
        said = "".join(text for message in flat for text in message.values())
        if not said.isascii():
            _refuse_surrogates(said)
        # A mark breaks every control token in what was said, before the template adds the real ones.
        mark = next((mark for mark in _MARKS if mark not in said), None)
        if mark is None:
            raise RequestError("the messages hold every one of Unicode's noncharacters U+FDD0 to U+FDEF; remove one")
        guarded = [{key: self._control.sub(_Break(mark), text) for key, text in message.items()} for message in flat]
        rendered = self._template.render(guarded)
        tokens: list[str] = []
        for part in self._control.split(rendered):
            if self._control.fullmatch(part):
                tokens.append(part)
            elif part:
                tokens += self._tokenizer.encode(part.replace(mark, ""), add_special_tokens=False).tokens
        if self._bos is not None and tokens[:1] != [self._bos]:
            tokens.insert(0, self._bos)
        return tokens

    def detokeniser(self) -> Detokeniser:
        """Returns a fresh detokeniser for one answer."""
        return Detokeniser(self._tokenizer, self._texts)


class _Break:
    """Puts a mark after the first character of a match."""

    def __init__(self, mark: str) -> None:
        self._mark = mark

    def __call__(self, match: re.Match[str]) -> str:
        return match[0][0] + self._mark + match[0][1:]


class Detokeniser:
    """Turns the tokens of one answer into text as they come, never half a character.

    Args:
        tokenizer: A byte-level tokenizer: each character of a token's name stands for one byte.
        added: Bytes of the tokens that are spelled out instead, by id; empty for control tokens.
    """

    def __init__(self, tokenizer: Tokenizer, added: dict[int, bytes]) -> None:
        self._tokenizer = tokenizer
        self._added = added
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """Returns the text that a token completes; empty while a character is still in pieces.

        An answer that ends inside a character ends before it.
        """
        data = self._added.get(token)
        if data is None:
            name = self._tokenizer.id_to_token(token)
            data = b"" if name is None else bytes(_BYTES[character] for character in name)
        return self._decoder.decode(data)


def _load(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer  # noqa: PLC0415 - kept out of `import nearhit`
    from tokenizers.decoders import ByteLevel  # noqa: PLC0415 - kept out of `import nearhit`

    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        raise ModelFormatError(f"{path} cannot be read: {error}; convert the model again") from error
    if not isinstance(tokenizer.decoder, ByteLevel):
        raise ModelFormatError(f"{path} is not a byte-level tokenizer, the only kind that a tier can run")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    # Control tokens are put in by name, and only where the template has them.
    tokenizer.encode_special_tokens = True
    return tokenizer


def _refuse_surrogates(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            f"a message holds {text[error.start]!r}, half of a character (a lone surrogate), which no model can read: "
            "replace it, for example with text.encode('utf-8', 'replace').decode()"
        ) from error


def _byte_names() -> dict[str, int]:
    """GPT-2's spelling of bytes: printable ones as themselves, the others from U+0100 on, in order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(0x100) if byte not in printable]
    names = {chr(byte): byte for byte in printable}
    return names | {chr(0x100 + place): byte for place, byte in enumerate(others)}


_BYTES = _byte_names()
