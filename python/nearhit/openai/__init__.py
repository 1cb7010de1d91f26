"""One line in front of an OpenAI client: `client = nearhit.openai.wrap(client, cache=...)`.

Everything the client does stays as it was: the same types, streams, tools, structured output, errors. Requests that the
cache may answer are answered from it; all others go where they went before, or where the router sends them.

Example:
    >>> import openai
    >>> from nearhit import Cache
    >>> from nearhit.openai import wrap
    >>> client = wrap(openai.OpenAI(api_key="sk-..."), cache=Cache())
    >>> isinstance(client, openai.OpenAI)
    True
"""

from __future__ import annotations

from nearhit.openai._controls import Controls, controls
from nearhit.openai._info import Counts, Info, info
from nearhit.openai._wrap import counts, wrap

__all__ = ["Controls", "Counts", "Info", "controls", "counts", "info", "wrap"]
