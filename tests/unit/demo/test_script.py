"""The script agrees with its own labels, and the user's prompts are read or refused by line."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest

from nearhit import RequestError, StorageError
from nearhit.demo.script import Request, load, read

if TYPE_CHECKING:
    from pathlib import Path


def identity(request: Request) -> str:
    return json.dumps(request.prompt, sort_keys=True)


def test_script_is_large_and_varied_enough() -> None:
    script = load()
    assert len(script) >= 60
    assert sum(request.expect == "near" for request in script) >= 15
    assert sum(request.expect == "exact" for request in script) >= 5
    assert sum(request.trap is not None for request in script) >= 20
    assert sum(request.level == "hard" for request in script) >= 7
    assert any(request.turns for request in script)


def test_labels_follow_from_the_classes() -> None:
    """A first of its class must miss, a repeat of the same words is exact, any other repeat is near."""
    classes: set[str] = set()
    identities: set[str] = set()
    for request in load():
        assert request.answer_class is not None, request
        expected = "exact" if identity(request) in identities else "near" if request.answer_class in classes else "miss"
        assert request.expect == expected, request
        assert (request.level is not None) == (expected == "miss"), request
        classes.add(request.answer_class)
        identities.add(identity(request))


def test_same_words_never_carry_two_classes() -> None:
    seen: dict[str, str | None] = {}
    for request in load():
        assert seen.setdefault(identity(request), request.answer_class) == request.answer_class


def test_text_file_has_one_prompt_a_line(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeffWhat is DNS?\r\n\r\n   Wer hat 🦔 erfunden?  \n".encode())
    assert read(str(file)) == [Request("What is DNS?"), Request("Wer hat 🦔 erfunden?")]


def test_json_lines_with_prompts_messages_and_classes(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "And on Linux?"}]
    rows = [{"prompt": "What is DNS?", "class": 7}, {"messages": messages}]
    file = tmp_path / "prompts.jsonl.gz"
    with gzip.open(file, "wt", encoding="utf-8") as stream:
        stream.write("\n".join(json.dumps(row) for row in rows))
    first, second = read(str(file))
    assert (first.text, first.answer_class, first.turns) == ("What is DNS?", "7", 0)
    assert (second.text, second.answer_class, second.turns) == ("And on Linux?", None, 1)
    assert len(read(str(file), limit=1)) == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no prompts"),
        (b"\n \n", "no prompts"),
        (b'{"prompt": "a"}\nplain', ":2: not JSON"),
        (b'{"prompt": "a"}\n[1]', ":2: expected an object"),
        (b'{"prompt": 3}', ":1: needs"),
        (b'{"messages": []}', ":1: needs"),
        (b'{"messages": [{"content": "no role"}]}', ":1: a message is"),
        (b'{"prompt": "a", "expect": "maybe"}', "'maybe'"),
        (b"caf\xe9", "not UTF-8"),
    ],
)
def test_unreadable_lines_are_named(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "prompts"
    file.write_bytes(content)
    with pytest.raises(RequestError, match=says):
        read(str(file))


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gz"
    broken.write_bytes(gzip.compress(b"What is DNS?\n" * 99)[:20])
    for path in (tmp_path / "absent.txt", tmp_path, broken):
        with pytest.raises(StorageError, match=path.name):
            read(str(path))
