"""What is packed once and filled in is what the commands themselves would be."""

from __future__ import annotations

import uuid

import pytest

from nearhit.backends._form import Form
from nearhit.backends._keys import Keys
from nearhit.backends._wire import pack


@pytest.mark.parametrize("namespace", ["nearhit", "50%", "%(s)b", "é"])
@pytest.mark.parametrize("element", [b"", b"\r\n%b$5", b"\x00" * 512])
def test_a_form_filled_in_is_the_commands_packed(namespace, element):
    keys = Keys(namespace, "none", 3)

    def ask(scope: str, fingerprint: str, element: bytes):
        key = keys.entry(scope, fingerprint)
        places = [(place, ("FIND", keys.prefix(place), element, 24, 0.925, "%s%%")) for place in keys.places(scope)]
        return [(key, ("HMGET", key, "e", "n")), *places]

    first = element[::-1]
    forms = {}
    for _ in range(20):
        scope, fingerprint = uuid.uuid4().hex, uuid.uuid4().hex
        shard = keys.shard(fingerprint)
        form = forms.get(shard)
        if form is None:
            form = forms[shard] = Form(lambda *names: ask(*names, first), scope, fingerprint, first)
        commands = ask(scope, fingerprint, element)
        assert form.count == len(commands)
        assert form.filled(scope, fingerprint, element) == b"".join(pack(command) for _, command in commands)
