"""GPTCache's functions that say what of a request is compared, for `pre_embedding_func` and `pre_func`.

Whatever they leave out of a chat (earlier turns, the model, tools, parameters) still has to match exactly; see
`nearhit.integrations.gptcache.core.Cache.init` for the way around that.
"""

from __future__ import annotations

import re
import string
from typing import Any


def last_content(data: dict[str, Any], **_: Any) -> Any:
    """The content of the last message.

    Example:
        >>> last_content({"messages": [{"content": "foo1"}, {"content": "foo2"}]})
        'foo2'
    """
    return data["messages"][-1]["content"]


def get_messages_last_content(data: dict[str, Any], **_: Any) -> Any:
    """The content of the last message, of LangChain's objects as well.

    Example:
        >>> get_messages_last_content({"messages": [{"content": "foo1"}, {"content": "foo2"}]})
        'foo2'
    """
    last = data["messages"][-1]
    return last["content"] if isinstance(last, dict) else last.content


def last_content_without_prompt(data: dict[str, Any], **params: Any) -> Any:
    """The content of the last message without the texts of `Config(prompts=[...])`.

    Example:
        >>> last_content_without_prompt({"messages": [{"content": "foo2"}]}, prompts=["foo"])
        '2'
    """
    content, prompts = last_content(data), params.get("prompts")
    return content if not prompts else re.sub("|".join(map(re.escape, prompts)), "", content)


def last_content_without_template(data: dict[str, Any], **params: Any) -> Any:
    """The values in the last message of the fields of `Config(template=...)`.

    Example:
        >>> from nearhit.integrations.gptcache import Config
        >>> message = {"content": "tell me a joke about cats"}
        >>> config = Config(template="tell me a joke about {subject}")
        >>> last_content_without_template({"messages": [message]}, cache_config=config)
        "['cats']"
    """
    content = last_content(data)
    template = getattr(params.get("cache_config"), "template", None)
    if not template:
        return content
    pattern = "".join(
        re.escape(text) + ("" if field is None else "(.*?)") for text, field, _, _ in string.Formatter().parse(template)
    )
    found = re.fullmatch(pattern, content, re.DOTALL)
    return content if found is None else str(list(found.groups()))


def last_content_without_template_or_prompt(data: dict[str, Any], **params: Any) -> Any:
    """`last_content_without_template` where there is a template, else `last_content_without_prompt`."""
    templated = getattr(params.get("cache_config"), "template", None)
    return (last_content_without_template if templated else last_content_without_prompt)(data, **params)


def all_content(data: dict[str, Any], **_: Any) -> Any:
    r"""The contents of all messages.

    Example:
        >>> all_content({"messages": [{"content": "foo1"}, {"content": "foo2"}]})
        'foo1\nfoo2'
    """
    return "\n".join(message["content"] for message in data["messages"])


def concat_all_queries(data: dict[str, Any], **params: Any) -> Any:
    r"""The last messages with their roles, but for those of `Config(skip_list=...)`; `context_len` pairs at most.

    Example:
        >>> from nearhit.integrations.gptcache import Config
        >>> turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
        >>> concat_all_queries({"messages": turns}, cache_config=Config())
        'USER: Hi'
    """
    config = params["cache_config"]
    kept = data["messages"][-config.context_len * 2 :] if config.context_len else data["messages"]
    return "\n".join(
        f"{each['role'].upper()}: {each['content']}" for each in kept if each["role"] not in config.skip_list
    )


def nop(data: dict[str, Any], **_: Any) -> Any:
    """The request itself."""
    return data


def get_prompt(data: dict[str, Any], **_: Any) -> Any:
    """The prompt of the call."""
    return data.get("prompt")


def get_inputs(data: dict[str, Any], **_: Any) -> Any:
    """The inputs of the call."""
    return data.get("inputs")


def get_openai_moderation_input(data: dict[str, Any], **_: Any) -> str:
    """The input of the call, as text."""
    return str(data.get("input"))
