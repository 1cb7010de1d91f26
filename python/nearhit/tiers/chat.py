"""From chat messages to the text that a model was trained on, by the chat template that came with it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NoReturn

from nearhit._errors import MissingDependencyError, ModelFormatError, RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nearhit._types import Message

_CHATML = re.compile(
    r"""
    \{%-?\ *for\ message\ in\ messages\ *-?%\}
    (?:\{%-?\ *if\ loop\.first\ and\ messages\[0\]\['role'\]\ !=\ 'system'\ *-?%\}
       \{\{-?\ *'<\|im_start\|>system\n(?P<system>[^'\\]*)<\|im_end\|>\n'\ *-?\}\}
       \{%-?\ *endif\ *-?%\})?
    \{\{-?\ *'<\|im_start\|>'\ \+\ message\['role'\]\ \+\ '\n'
       \ \+\ message\['content'\]\ \+\ '<\|im_end\|>'\ \+\ '\n'\ *-?\}\}
    \{%-?\ *endfor\ *-?%\}
    \{%-?\ *if\ add_generation_prompt\ *-?%\}
    \{\{-?\ *'<\|im_start\|>assistant\n'\ *-?\}\}
    \{%-?\ *endif\ *-?%\}
    """,
    re.VERBOSE,
)


class ChatTemplate:
    """Renders messages as a model expects them, ready for it to answer.

    ChatML, the most common format, is rendered here; any other template needs jinja2 (extra `templates`) and runs in
    its sandbox, since it comes with the model and is not to be trusted.

    Args:
        template: The model's own Jinja template; None for plain ChatML.
        bos_token: First token of the model's input, for templates that name it.
        eos_token: Token that ends a turn, for templates that name it.

    Raises:
        MissingDependencyError: The template is not ChatML, and jinja2 is not installed.
        ModelFormatError: The template is not valid Jinja.

    Example:
        >>> print(ChatTemplate(None).render([{"role": "user", "content": "Hi"}]), end="")
        <|im_start|>user
        Hi<|im_end|>
        <|im_start|>assistant
    """

    def __init__(self, template: str | None, *, bos_token: str | None = None, eos_token: str | None = None) -> None:
        found = None if template is None else _CHATML.fullmatch(template.replace("\\n", "\n").strip())
        if template is None or found:
            self._system = found["system"] if found else None
            self._render: Callable[[Sequence[Mapping[str, str]]], str] = self._chatml
        else:
            self._render = _jinja(template, bos_token or "", eos_token or "")

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Returns the text for messages whose contents are texts.

        Raises:
            RequestError: The template refuses the messages.
        """
        return self._render(messages)

    def _chatml(self, messages: Sequence[Mapping[str, str]]) -> str:
        turns = [(message["role"], message["content"]) for message in messages]
        if self._system is not None and turns[0][0] != "system":
            turns.insert(0, ("system", self._system))
        told = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
        return told + "<|im_start|>assistant\n"


def _jinja(template: str, bos_token: str, eos_token: str) -> Callable[[Sequence[Mapping[str, str]]], str]:
    try:
        from jinja2 import TemplateError  # noqa: PLC0415 - an extra
        from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingDependencyError(
            "the model's chat template is not ChatML and needs jinja2: pip install 'nearhit[templates]'"
        ) from error

    def refuse(message: str) -> NoReturn:
        raise RequestError(f"the model's chat template refuses the messages: {message}")

    # The settings of the Hugging Face libraries, for which these templates are written.
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse
    try:
        compiled = environment.from_string(template)
    except TemplateError as error:
        raise ModelFormatError(f"the model's chat template is not valid: {error}") from error

    def render(messages: Sequence[Mapping[str, str]]) -> str:
        values: dict[str, Any] = {"bos_token": bos_token, "eos_token": eos_token, "add_generation_prompt": True}
        try:
            return compiled.render(messages=[dict(message) for message in messages], **values)
        except RequestError:
            raise
        except Exception as error:
            raise RequestError(f"the model's chat template cannot render the messages: {error}") from error

    return render


def flatten(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Returns messages with their contents as texts: parts of type "text" joined, None as empty.

    Raises:
        RequestError: A part that is no text.
    """
    flat = []
    for position, message in enumerate(messages):
        content = message.get("content")
        if content is None:
            content = ""
        elif not isinstance(content, str):
            texts = [part.get("text") for part in content if part["type"] in ("text", "input_text")]
            if len(texts) < len(content) or not all(isinstance(text, str) for text in texts):
                raise RequestError(f"message {position} holds a part that is no text, and this model reads only text")
            content = "".join(map(str, texts))
        flat.append({"role": message["role"], "content": content})
    return flat
