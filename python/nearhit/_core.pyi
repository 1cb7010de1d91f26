from collections.abc import Mapping, Sequence
from typing import Any, final

__version__: str

@final
class CanonicalRequest:
    """A request in canonical form: what must match exactly, and the text that may be compared by meaning.

    Attributes:
        fingerprint: 128 bits in hexadecimal, equal for equal requests and for no others, in every process.
        scope: 128 bits in hexadecimal for everything but the last user text.
        text: The last user text, normalised; None if only an equal request may be answered (images, tools...).
        temperature: The sampling temperature the request states, if it does.
    """

    @property
    def fingerprint(self) -> str: ...
    @property
    def scope(self) -> str: ...
    @property
    def text(self) -> str | None: ...
    @property
    def temperature(self) -> float | None: ...

def canonical(
    request: str | Sequence[Mapping[str, Any]] | Mapping[str, Any], /, *, scope: Any = None
) -> CanonicalRequest:
    """The canonical form of a prompt, of a conversation's messages, or of an OpenAI request body.

    Example:
        >>> canonical("Why?").fingerprint == canonical([{"role": "user", "content": "Why?"}]).fingerprint
        True

    Raises:
        EmptyPromptError: Nothing but white space in the last user text.
        RequestError: A part that cannot be read; the message names the place.
    """
