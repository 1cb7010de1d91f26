"""How names and values appear in messages."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_SECRET: Final = re.compile(r"(key|token|secret|password|headers)$", re.IGNORECASE)
_ACCOUNT: Final = re.compile(r"://[^/]*@")
_MOST: Final = 20


def nearest(name: str, known: Iterable[str]) -> str:
    """The way out for a name that does not exist."""
    listed = sorted(known)
    close = difflib.get_close_matches(name, listed, n=1)
    if close:
        return f"did you mean {close[0]}?"
    more = f" and {len(listed) - _MOST} more" if len(listed) > _MOST else ""
    return f"there are {', '.join(listed[:_MOST])}{more}"


def shown(name: str, value: Any) -> str:
    """A value for a message; what may hold a secret is not shown."""
    if isinstance(value, dict | list):
        return f"a {'table' if isinstance(value, dict) else 'list'}"
    secret = isinstance(value, str) and (_SECRET.search(name) or _ACCOUNT.search(value))
    return "'***'" if secret else repr(value)
