"""nearhit.toml and NEARHIT_* variables: what wins, what is refused, and how it is said."""

from __future__ import annotations

import os
from pathlib import Path

import openai
import pytest

import nearhit
from nearhit import AsyncCache, Cache, Router, config


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    """An empty working folder, and none of nearhit's variables."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("NEARHIT_") and name not in config._OTHERS:
            monkeypatch.delenv(name)


def write(text, name="nearhit.toml"):
    Path(name).write_text(text, encoding="utf-8")
    return name


def test_nothing_configured_is_nothing_said():
    found = config.load(environ={})
    assert (found.cache, found.embedder, found.router, found.tiers) == ({}, None, {}, ())


def test_code_wins_over_environment_over_file(monkeypatch):
    write('[cache]\nmax_entries = 1\nttl = 1\nmax_bytes = "1MiB"\n')
    monkeypatch.setenv("NEARHIT_CACHE_MAX_ENTRIES", "2")
    monkeypatch.setenv("NEARHIT_CACHE_TTL", "2.5")
    found = config.load()
    assert found.cache == {"max_entries": 2, "ttl": 2.5, "max_bytes": "1MiB"}
    assert found.sources["cache.max_entries"] == "NEARHIT_CACHE_MAX_ENTRIES"
    assert found.sources["cache.max_bytes"] == "nearhit.toml"
    for number, cache in ((2, Cache.from_config()), (3, AsyncCache.from_config(max_entries=3))):
        for prompt in "abcdefgh":
            Cache.sharing(cache).store(prompt, "x")
        assert len(cache) == number


def test_the_file_is_found_by_its_path_or_variable(monkeypatch):
    write("[cache]\nttl = 1\n", "one.toml")
    write("[cache]\nttl = 2\n", "two.toml")
    monkeypatch.setenv("NEARHIT_CONFIG", "two.toml")
    assert config.load().cache == {"ttl": 2}
    assert config.load("one.toml").cache == {"ttl": 1}


TIERS = """
[router]
strategy = "cheapest"
retries = 1

[[tiers]]
type = "openai"
name = "large one"
model = "gpt"
base_url = "http://127.0.0.1:1/v1"
quality = 0.9
price = {prompt = 1e-6, completion = 2e-6}
timeouts = {total = 5}
capabilities = ["tools"]
"""


def test_tiers_and_router():
    write(TIERS)
    environment = {"NEARHIT_TIER_LARGE_ONE_API_KEY": "sk-secret", "NEARHIT_ROUTER_STRATEGY": "best"}
    found = config.load(environ=environment)
    assert found.router == {"strategy": "best", "retries": 1}
    (tier,) = found.make_tiers()
    assert (tier.name, tier.model) == ("large one", "gpt")
    assert tier.cost(nearhit._types.Usage(1, 1)) == pytest.approx(3e-6)
    assert Router.from_config().decide("Hello").tier == "large one"
    small = nearhit.FunctionTier("small", lambda _: "x")
    assert Router.from_config(tiers=[small]).complete("Hello").text == "x"


def test_every_option_of_the_classes_is_there():
    parts = config._parts()
    assert {"threshold", "policy", "max_entries", "max_bytes", "ttl", "path", "durability", "backend"} <= set(
        parts["cache"]
    )
    assert {"model", "engine", "device", "compute_type", "threads"} <= set(parts["embedder"])
    assert {"strategy", "deadline", "max_cost", "cost_weight", "head", "breaker_failures"} <= set(parts["router"])
    assert {"embedding_deadline", "defaults"} <= set(parts["openai"])
    assert {"base_url", "api_key", "timeouts", "price", "verify"} <= set(config._tier_options("openai"))


def test_a_client_is_wrapped_as_configured():
    write('[openai]\nembedding_deadline = 0.5\ndefaults = {tenant = "acme"}\n')
    client = openai.OpenAI(api_key="sk-test", base_url="http://127.0.0.1:1/v1")
    wrapped = config.load(environ={"NEARHIT_OPENAI_EMBEDDING_DEADLINE": "0.25"}).wrap(client, cache=Cache())
    engine = wrapped._nearhit_state.engine
    assert (engine.defaults, engine._deadline) == ({"tenant": "acme"}, 0.25)
    write("[openai]\ndefaults = {tenent = 'acme'}\n")
    with pytest.raises(nearhit.UnknownOptionError, match="did you mean tenant"):
        config.load(environ={}).wrap(client)


def test_none_is_a_word():
    assert config.load(environ={"NEARHIT_CACHE_MAX_BYTES": "none"}).cache == {"max_bytes": None}
    write('[cache]\nthreshold = "none"\n')
    assert config.load(environ={}).cache == {"threshold": None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[cache]\nmax_entries = 'many'\n", r"cache\.max_entries='many'.*expected int or none"),
        ("[cache]\nmax_entries = true\n", r"max_entries=True"),
        ("[cache]\nread_only = 1\n", r"read_only=1.*expected bool"),
        ("[cache]\ndurability = 'often'\n", r"durability='often'.*'async' or 'sync'"),
        ("[cache]\nmax_entrys = 3\n", r"\[cache\] has no option max_entrys=3: did you mean max_entries\?"),
        ("[cach]\nttl = 3\n", r"\[cach\].*did you mean cache\?"),
        ("cache = 3\n", r"cache=3.*\[cache\]"),
        ("[[tiers]]\nname = 'x'\n", r"tiers\.type=None.*openai"),
        ("[[tiers]]\ntype = 'openai'\n", "no name"),
        ("[[tiers]]\ntype = 'openai'\nname = 'x'\nbase_ulr = 'y'\n", r"base_ulr='y': did you mean base_url\?"),
        ("tiers = 1\n", r"tiers=1"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(text, message):
    write(text)
    with pytest.raises(nearhit.OptionError, match=message):
        config.load(environ={})


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("NEARHIT_CACHE_MAX_ENTRIES", "1.5", r"NEARHIT_CACHE_MAX_ENTRIES='1\.5'.*expected int or none"),
        ("NEARHIT_CACHE_READ_ONLY", "maybe", r"expected bool"),
        ("NEARHIT_CACHE_DURABILITY", "often", r"'async' or 'sync'"),
        ("NEARHIT_CACHE_MAX_BYTE", "1", r"did you mean NEARHIT_CACHE_MAX_BYTES\?"),
        ("NEARHIT_HOMES", "/x", r"did you mean NEARHIT_HOME\?"),
    ],
)
def test_what_is_wrong_in_the_environment_is_named(variable, text, message):
    with pytest.raises(nearhit.OptionError, match=message):
        config.load(environ={variable: text})


def test_options_of_a_tiers_parts_are_checked():
    write(TIERS.replace("total = 5", "totl = 5"))
    with pytest.raises(nearhit.UnknownOptionError, match="totl"):
        config.load(environ={}).make_tiers()


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(nearhit.StorageError, match=r"missing\.toml"):
        config.load("missing.toml")
    write("[cache\n")
    with pytest.raises(nearhit.CorruptFileError, match="not TOML"):
        config.load()
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(nearhit.CorruptFileError, match="bytes"):
        config.load("bytes.toml")
