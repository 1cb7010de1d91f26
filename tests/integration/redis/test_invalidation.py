"""Invalidations reach every replica; who may have missed one drops what it holds."""

from __future__ import annotations

import time

import pytest
from tests.support.redis_servers import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import until

PROMPT = "How do I reset the password of my account?"
NEARLY = "How do I reset the password of my account"


@pytest.mark.parametrize("by", ["tag", "scope", "id", "prompt", "older_than", "clear"])
def test_every_replica_drops_what_one_invalidates(server, replica, by):
    one, two = replica(server.url), replica(server.url)
    entry_id = one.store(PROMPT, "Click.", tags=["help", "x y"], scope="acme")
    one.store("something else", "kept", scope="other")
    one.flush()
    assert two.lookup(PROMPT, scope="acme") is not None
    assert two.lookup("something else", scope="other") is not None
    time.sleep(0.01)
    if by == "clear":
        one.clear()
    else:
        choices = {"tag": "x y", "scope": "acme", "id": entry_id, "older_than": 0.001}
        given = {"prompt": PROMPT, "scope": "acme"} if by == "prompt" else {by: choices[by]}
        assert one.invalidate(**given) == (2 if by == "older_than" else 1)
    until(lambda: two.lookup(PROMPT, scope="acme") is None)
    assert two.lookup(NEARLY, scope="acme") is None
    left = 0 if by in ("clear", "older_than") else 1
    assert len(two) == left
    with server.client() as client:
        assert len(client.keys("nearhit:3:*:e:*")) == left
        for key in client.keys("nearhit:3:*:v64:*"):
            assert client.execute_command("VCARD", key) == left
    one.store(PROMPT, "Anew.", scope="acme")
    one.flush()
    assert two.lookup(PROMPT, scope="acme").response == "Anew."


def test_an_id_that_is_held_nowhere_but_on_the_server(server, replica):
    writer = replica(server.url)
    entry_id = writer.store(PROMPT, "Click.")
    writer.flush()
    assert replica(server.url).invalidate(id=entry_id) == 1
    assert replica(server.url).lookup(PROMPT) is None


def test_a_wrong_near_hit_is_exact_only_everywhere(server, replica):
    one, two, three = (replica(server.url) for _ in range(3))
    one.store(PROMPT, "Click.")
    one.flush()
    assert three.lookup(PROMPT) is not None
    two.feedback(two.lookup(NEARLY), correct=False)
    until(lambda: three.lookup(NEARLY) is None)
    assert two.lookup(NEARLY) is None
    assert one.lookup(NEARLY) is None
    late = replica(server.url)
    assert late.lookup(NEARLY) is None
    assert late.lookup(PROMPT) is not None


def test_an_entry_on_its_way_does_not_outlive_its_invalidation(own_server, replica):
    """A writer whose queue is held up by a cut network stores; another replica invalidates; then the network heals."""
    with TcpProxy(own_server.port) as proxy:
        held_up = replica(f"redis://127.0.0.1:{proxy.port}")
        other = replica(own_server.url)
        proxy.refusing = True
        proxy.cut()
        until(lambda: not held_up._backend.stats().connected)
        held_up.store(PROMPT, "stale", tags=["t"])
        other.invalidate(tag="t")
        proxy.refusing = False
        held_up.flush()
        until(lambda: held_up._backend.stats().position == other._backend.stats().position)
        assert other.lookup(PROMPT) is None
        assert replica(own_server.url).lookup(PROMPT) is None
        assert held_up.lookup(PROMPT) is None


def test_a_replica_that_was_cut_off_catches_up(own_server, replica):
    with TcpProxy(own_server.port) as proxy:
        away = replica(f"redis://127.0.0.1:{proxy.port}")
        here = replica(own_server.url)
        here.store(PROMPT, "Click.", tags=["t"])
        here.store("something else", "kept")
        here.flush()
        assert away.lookup(PROMPT) is not None
        assert away.lookup("something else") is not None
        proxy.refusing = True
        proxy.cut()
        until(lambda: not away._backend.stats().connected)
        here.invalidate(tag="t")
        assert away.lookup(PROMPT) is not None  # cut off: it serves what it holds
        proxy.refusing = False
        until(lambda: away.lookup(PROMPT) is None)
        assert away.lookup("something else") is not None  # it knows all that it missed
        assert away._backend.stats().drops == 0


def test_a_replica_that_missed_too_much_drops_everything(own_server, replica):
    with TcpProxy(own_server.port) as proxy:
        away = replica(f"redis://127.0.0.1:{proxy.port}")
        here = replica(own_server.url)
        here.store(PROMPT, "Click.")
        here.flush()
        assert away.lookup(PROMPT) is not None
        proxy.refusing = True
        proxy.cut()
        until(lambda: not away._backend.stats().connected)
        for number in range(3):
            here.invalidate(tag=f"tag {number}")
        with own_server.client() as client:
            client.xtrim("nearhit:1:{log}:stream", maxlen=1, approximate=False)
        proxy.refusing = False
        until(lambda: away._backend.stats().drops == 1)
        assert len(away) == 0


def test_what_is_held_too_long_without_contact_is_dropped_if_asked_for(own_server, replica):
    with TcpProxy(own_server.port) as proxy:
        away = replica(f"redis://127.0.0.1:{proxy.port}", max_stale=1.0)
        away.store(PROMPT, "Click.")
        away.flush()
        proxy.refusing = True
        proxy.cut()
        assert away.lookup(PROMPT) is not None
        until(lambda: len(away) == 0)


def test_an_invalidation_made_during_an_outage_is_told_afterwards(own_server, replica):
    with TcpProxy(own_server.port) as proxy:
        away = replica(f"redis://127.0.0.1:{proxy.port}")
        here = replica(own_server.url)
        here.store(PROMPT, "Click.", tags=["t"])
        here.flush()
        proxy.refusing = True
        proxy.cut()
        until(lambda: not away._backend.stats().connected)
        away.invalidate(tag="t")
        proxy.refusing = False
        until(lambda: here.lookup(PROMPT) is None)
        with own_server.client() as client:
            until(lambda: not client.keys("nearhit:3:*:e:*"))


def test_a_restart_that_lost_the_log_is_noticed(replica):
    """Without data the server comes back with another log: what it held, and we hold, cannot be proven fresh."""
    with RedisServer("vectorset") as server:
        one, two = replica(server.url), replica(server.url)
        one.store(PROMPT, "Click.")
        one.flush()
        assert two.lookup(PROMPT) is not None
        server.kill()
        server.start()
        until(lambda: one._backend.stats().drops == two._backend.stats().drops == 1)
        assert two.lookup(PROMPT) is None
        one.store(PROMPT, "Anew.")
        one.flush()
        assert two.lookup(NEARLY).response == "Anew."


def test_data_from_before_an_invalidation_that_a_restart_brings_back_is_refused(replica):
    with RedisServer("vectorset") as server:
        one = replica(server.url)
        one.store(PROMPT, "stale", tags=["t"])
        one.flush()
        with server.client() as client:
            client.save()
        one.invalidate(tag="t")
        one.store("something else", "kept")
        server.kill()
        server.start()  # with the snapshot: the entry is back, the invalidation is not
        with server.client() as client:
            assert client.keys("nearhit:3:*:e:*")
        until(lambda: one._backend.stats().drops == 1)
        assert one.lookup(PROMPT) is None
        assert replica(server.url).lookup(PROMPT) is None
