"""nearhit.toml and NEARHIT_* variables: what wins, what is refused, and how it is said."""

from __future__ import annotations

import os
from pathlib import Path

import openai
import pytest

import nearhit
from nearhit import AsyncCache, Cache, Router, config
from nearhit.cache import TierJudge
from nearhit.otel import OpenTelemetry
from nearhit.router import Cascade


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    """An empty working folder, and none of nearhit's variables."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("NEARHIT_") and name not in config._environment.OTHERS:
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


EVERYTHING = """
[cache]
sampling = "exact"

[cache.backend]
url = "redis://127.0.0.1:1"
deadline = 0.05
follow = ["acme", {tenant = "b"}]
protocol = 2

[router]
on_trace = "opentelemetry"

[router.profiles."large one"]
ttft = 0.25
tools = false

[router.cascade]
threshold = 0.7
hold_tokens = 20

[[tiers]]
type = "replicas"
name = "large one"
affinity = "none"

[[tiers.tiers]]
type = "openai"
name = "east"
model = "gpt"
base_url = "http://127.0.0.1:1/v1"
headers = {x-team = "a"}

[[tiers.tiers]]
type = "openai"
name = "west"
model = "gpt"
base_url = "http://127.0.0.1:2/v1"
"""


def test_tables_become_the_objects_that_code_is_given():
    write(EVERYTHING)
    environment = {
        "NEARHIT_ROUTER_CASCADE_THRESHOLD": "0.8",
        "NEARHIT_ROUTER_PROFILES_LARGE_ONE_TTFT": "0.5",
        "NEARHIT_CACHE_BACKEND_NAMESPACE": "shop",
        "NEARHIT_TIER_EAST_API_KEY": "sk-east",
        "NEARHIT_TIER_LARGE_ONE_LOAD_GATE": "2",
    }
    found = config.load(environ=environment)
    router, cache = found.router_options(), found.cache_options()
    assert router["cascade"] == Cascade(threshold=0.8, hold_tokens=20)
    assert router["profiles"] == {"large one": nearhit.TierProfile(ttft=0.5, tools=False)}
    assert isinstance(router["on_trace"], OpenTelemetry)
    assert cache["sampling"] == "exact"
    assert repr(cache["backend"]) == "RedisBackend('redis://127.0.0.1:1', namespace='shop')"
    (tier,) = found.make_tiers()
    assert [each.name for each in tier.replicas] == ["east", "west"]
    assert tier._affinity is None
    assert found.sources["tiers.large one.tiers.east.api_key"] == "NEARHIT_TIER_EAST_API_KEY"
    assert found.sources["router.profiles.large one.ttft"] == "NEARHIT_ROUTER_PROFILES_LARGE_ONE_TTFT"
    assert "sk-east" not in repr(tier)
    assert Router(found.make_tiers(), **router).decide("Hello").predicted_ttft == pytest.approx(0.5)


def test_the_environment_alone_can_say_it_all():
    environment = {
        "NEARHIT_TIERS": '[{type = "openai", name = "only", model = "m", base_url = "http://127.0.0.1:1/v1"}]',
        "NEARHIT_TIER_ONLY_TIMEOUTS_TOTAL": "5",
        "NEARHIT_TIER_ONLY_HEADERS": '{x-team = "a"}',
        "NEARHIT_TIER_ONLY_CAPABILITIES": "tools, json",
        "NEARHIT_TIER_ONLY_PRICE": "{prompt = 1e-6, completion = 2e-6}",
        "NEARHIT_ROUTER_PROFILES_ONLY_QUALITY": "0.75",
        "NEARHIT_CACHE_BACKEND": "redis://127.0.0.1:1",
        "NEARHIT_CACHE_BACKEND_SHARDS": "2",
        "NEARHIT_OPENAI_DEFAULTS_TENANT": "acme",
        "NEARHIT_OPENAI_DEFAULTS_TAGS": "a, b",
    }
    found = config.load(environ=environment)
    (tier,) = found.make_tiers()
    assert (tier.timeouts.total, tier.capabilities) == (5, {"tools", "json"})
    assert tier.price == nearhit.tiers.Price(1e-6, 2e-6)
    assert found.router_options()["profiles"]["only"].quality == 0.75
    assert found.cache["backend"] == {"url": "redis://127.0.0.1:1", "shards": 2}
    assert found.openai["defaults"] == {"tenant": "acme", "tags": ["a", "b"]}


def test_a_judge_is_a_tier_of_its_own():
    write(
        '[cache]\npolicy = "verified"\n[cache.judge]\ntype = "openai"\nname = "judge"\nmodel = "m"\n'
        'base_url = "http://127.0.0.1:1/v1"\n'
    )
    options = config.load(environ={"NEARHIT_CACHE_JUDGE_API_KEY": "sk-judge"}).cache_options()
    assert isinstance(options["judge"], TierJudge)
    assert options["judge"]._tier.model == "m"
    assert config.load(environ={"NEARHIT_CACHE_JUDGE": "embedding"}).cache["judge"] == "embedding"


def test_what_code_gives_is_not_made_from_the_file():
    write('[cache.backend]\nurl = "nonsense"\n')
    assert len(Cache.from_config(backend=None)) == 0
    with pytest.raises(nearhit.OptionError, match="nonsense"):
        Cache.from_config()


def test_a_client_is_wrapped_as_configured():
    write('[openai]\nembedding_deadline = 0.5\ndefaults = {tenant = "acme"}\n')
    client = openai.OpenAI(api_key="sk-test", base_url="http://127.0.0.1:1/v1")
    wrapped = config.load(environ={"NEARHIT_OPENAI_EMBEDDING_DEADLINE": "0.25"}).wrap(client, cache=Cache())
    engine = wrapped._nearhit_state.engine
    assert (engine.defaults, engine._deadline) == ({"tenant": "acme"}, 0.25)
    write("[openai]\ndefaults = {tenent = 'acme'}\n")
    with pytest.raises(nearhit.UnknownOptionError, match=r"nearhit\.toml: \[openai\.defaults\].*did you mean tenant"):
        config.load(environ={})


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
        ("[cache.backend]\nurl = 'redis://x'\ndeadlin = 1\n", r"\[cache\.backend\].*deadlin=1.*deadline\?"),
        ("[cache.backend]\nurl = 'redis://x'\nengine = 'sql'\n", r"cache\.backend\.engine='sql'.*'vectorset'"),
        ("[router.cascade]\nthreshold = 'high'\n", r"router\.cascade\.threshold='high'.*expected float"),
        ("[router.profiles.small]\nqualty = 1.0\n", r"\[router\.profiles\.small\].*did you mean quality"),
        ("[router]\non_trace = 'print'\n", r"on_trace='print'.*'opentelemetry'"),
        ("[cache.judge]\ntype = 'none'\n", r"cache\.judge\.type='none'.*openai"),
        ("[[tiers]]\ntype = 'openai'\nname = 'x'\napi_kee = 'sk-1'\n", r"api_kee='\*\*\*': did you mean api_key"),
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
        ("NEARHIT_CACHE_BACKEND_DEADLINE", "soon", r"expected float"),
        ("NEARHIT_ROUTER_CASCADE", "{threshold = }", r"NEARHIT_ROUTER_CASCADE is not a value as TOML"),
        ("NEARHIT_ROUTER_CASCADE", "{threshhold = 1}", r"did you mean threshold"),
        ("NEARHIT_TIERS", "[{type = 'openai'}]", "no name"),
    ],
)
def test_what_is_wrong_in_the_environment_is_named(variable, text, message):
    with pytest.raises(nearhit.OptionError, match=message):
        config.load(environ={variable: text})


def test_options_of_a_tiers_parts_are_checked():
    write(TIERS.replace("total = 5", "totl = 5"))
    with pytest.raises(nearhit.UnknownOptionError, match="totl"):
        config.load(environ={})


def test_what_an_object_needs_is_named_where_it_is_missing():
    write("[cache.backend]\ndeadline = 1\n[cache.judge]\ntype = 'openai'\nname = 'judge'\nmodel = 'm'\n")
    with pytest.raises(nearhit.OptionError, match=r"\[cache\.backend\].*url"):
        config.load(environ={}).cache_options(without=["judge"])
    with pytest.raises(nearhit.OptionError, match=r"\[cache\.judge\].*base_url"):
        config.load(environ={}).cache_options(without=["backend"])
    given = {"NEARHIT_CACHE_JUDGE_THREADS": "2"}
    with pytest.raises(nearhit.UnknownOptionError, match=r"the environment: \[cache\.judge\] has no option threads"):
        config.load(environ=given).cache_options(without=["backend"])


def test_a_variable_for_a_part_of_no_table_is_named():
    write("[cache]\njudge = 'exact'\n")
    with pytest.raises(nearhit.OptionError, match=r"NEARHIT_CACHE_JUDGE_NAME is for a table, but judge='exact'"):
        config.load(environ={"NEARHIT_CACHE_JUDGE_NAME": "x"})


def test_secrets_are_in_no_message():
    with pytest.raises(nearhit.UnknownOptionError) as caught:
        config.load(environ={"NEARHIT_TIER_LARGE_API_KEY": "sk-secret"})
    assert "sk-secret" not in str(caught.value)
    with pytest.raises(nearhit.OptionError) as caught:
        config.load(environ={"NEARHIT_CACHE_MAX_ENTRIES": "redis://:pass@host"})
    assert "pass" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(nearhit.StorageError, match=r"missing\.toml"):
        config.load("missing.toml")
    write("[cache\n")
    with pytest.raises(nearhit.CorruptFileError, match="not TOML"):
        config.load()
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(nearhit.CorruptFileError, match="bytes"):
        config.load("bytes.toml")
