"""The simulator: nothing lost, nothing answered twice, and the waits that queueing theory gives."""

from __future__ import annotations

import gzip
import json
import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearhit import InputError, OptionError, cli
from nearhit.bench.replay import POLICIES, Arrival, Scenario, TierModel, figures, prepare, read_trace, replay
from nearhit.bench.replay.balancers import LeastBusy, LowestMeanLatency, RoundRobin
from nearhit.bench.replay.clock import Clock
from nearhit.bench.replay.scenario import capacity
from nearhit.bench.replay.server import Job, Server
from nearhit.bench.replay.world import World

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PLAIN = TierModel(
    name="plain",
    quality=0.5,
    input_cost=0.0,
    output_cost=0.0,
    slots=1,
    stated=False,
    ttft=1.0,
    per_prompt_token=0.0,
    tpot=0.0,
    slowdown=0.0,
)


class _Log:
    """A caller that notes when its call had its first token and its end."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.first: list[float] = []
        self.ends: list[float] = []

    def first_token(self, job: Job) -> None:
        self.first.append(self._clock.now)

    def ended(self, job: Job) -> None:
        self.ends.append(self._clock.now)


def _trace(count: int, seed: int = 0, rate: float = 5.0) -> list[Arrival]:
    chance, at, arrivals = random.Random(seed), 0.0, []
    for _ in range(count):
        at += chance.expovariate(rate)
        arrivals.append(Arrival(at, chance.randrange(10, 3000), chance.randrange(1, 500)))
    return arrivals


def test_what_is_due_first_happens_first_and_what_is_cancelled_never() -> None:
    clock, seen = Clock(), []
    clock.at(2.0, lambda: seen.append("late"))
    clock.at(1.0, lambda: seen.append("early"))
    clock.at(1.0, lambda: clock.at(0.5, lambda: seen.append(f"at once, at {clock.now}")))
    clock.at(1.5, lambda: seen.append("never")).cancel()
    clock.run()
    assert seen == ["early", "at once, at 1.0", "late"]


def test_one_slot_serves_in_the_order_of_arrival() -> None:
    clock = Clock()
    server, log = Server(clock, PLAIN), _Log(clock)
    for work in (3.0, 1.0, 2.0):
        server.submit(Job(log, work, 0.5, failed=False))
    clock.run()
    assert log.first == pytest.approx([3.0, 4.5, 7.0])
    assert log.ends == pytest.approx([3.5, 5.0, 7.5])
    assert server.in_flight == 0


def test_calls_that_share_the_processor_slow_each_other_down() -> None:
    clock = Clock()
    server, log = Server(clock, replace(PLAIN, slots=2, slowdown=1.0)), _Log(clock)
    server.submit(Job(log, 4.0, 0.0, failed=False))
    clock.at(1.0, lambda: server.submit(Job(log, 1.0, 0.0, failed=False)))
    clock.run()
    # One second alone, two in which both go at half the speed, then two alone.
    assert log.ends == pytest.approx([3.0, 5.0])


def test_a_degraded_server_takes_the_factor_longer() -> None:
    clock = Clock()
    server, log = Server(clock, PLAIN), _Log(clock)
    server.submit(Job(log, 2.0, 0.0, failed=False))
    clock.at(1.0, lambda: server.degrade(4.0))
    clock.at(3.0, lambda: server.degrade(1.0))
    clock.run()
    assert log.ends == pytest.approx([3.5])


def test_a_call_given_up_makes_room() -> None:
    clock = Clock()
    server, log = Server(clock, PLAIN), _Log(clock)
    jobs = [Job(log, 5.0, 5.0, failed=False) for _ in range(3)]
    for job in jobs:
        server.submit(job)
    clock.at(1.0, lambda: server.cancel(jobs[1]))
    clock.at(2.0, lambda: server.cancel(jobs[0]))
    clock.at(9.5, lambda: log.first.append(server.produced(jobs[2])))
    clock.run()
    assert log.first == pytest.approx([7.0, 0.5])
    assert log.ends == pytest.approx([12.0])
    assert (server.in_flight, server.running) == (0, 0)


def test_what_a_server_says_of_its_end_comes_true_where_nothing_comes_after() -> None:
    clock = Clock()
    server, log = Server(clock, replace(PLAIN, slots=2)), _Log(clock)
    said = []
    for before, after in ((3.0, 1.0), (1.0, 1.0), (2.0, 0.0), (0.5, 0.5)):
        job = Job(log, before, after, failed=False)
        said.append(server.finishes_in(job))
        server.submit(job)
    clock.run()
    assert sorted(said) == pytest.approx(sorted(log.ends))


def _mean_wait(slots: int, rate: float, count: int, seed: int = 1) -> float:
    """Mean seconds from arrival to slot with exponential gaps and services of mean 1."""
    clock, chance = Clock(), random.Random(seed)
    server, log = Server(clock, replace(PLAIN, slots=slots)), _Log(clock)
    jobs, at = [], 0.0
    for _ in range(count):
        at += chance.expovariate(rate)
        job = Job(log, chance.expovariate(1.0), 0.0, failed=False)
        jobs.append(job)
        clock.at(at, lambda job=job: server.submit(job))
    clock.run()
    assert len(log.ends) == count
    return sum((job.started or 0.0) - job.submitted for job in jobs) / count


def test_waits_are_those_of_an_m_m_1_queue() -> None:
    load = 0.7
    assert _mean_wait(1, load, 120_000) == pytest.approx(load / (1 - load), rel=0.05)


def test_waits_are_those_of_an_m_m_c_queue() -> None:
    slots, load = 4, 0.8
    offered = slots * load
    last = offered**slots / math.factorial(slots) / (1 - load)
    waiting = last / (sum(offered**k / math.factorial(k) for k in range(slots)) + last)  # Erlang's C
    assert _mean_wait(slots, offered, 120_000) == pytest.approx(waiting / (slots * (1 - load)), rel=0.08)


def test_shared_processors_hold_as_many_calls_as_theory_says() -> None:
    """Processor sharing with exponential work: mean time in the system 1 / (1 - load), whatever came before."""
    clock, chance, load = Clock(), random.Random(2), 0.6
    slots = 400
    # A slowdown of slots - 1 makes so many calls share one processor evenly.
    server, log = Server(clock, replace(PLAIN, slots=slots, slowdown=slots - 1.0)), _Log(clock)
    at, begun = 0.0, []
    for _ in range(40_000):
        at += chance.expovariate(load)
        begun.append(at)
        job = Job(log, chance.expovariate(1.0), 0.0, failed=False)
        clock.at(at, lambda job=job: server.submit(job))
    clock.run()
    mean = (sum(log.ends) - sum(begun)) / len(begun)
    assert mean == pytest.approx(1 / (1 - load), rel=0.06)


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=12, deadline=None)
@given(
    st.builds(
        Scenario,
        load=st.floats(0.2, 3.0),
        errors=st.floats(0.0, 0.5),
        stalls=st.floats(0.0, 0.3),
        patience=st.floats(0.3, 5.0),
        degraded=st.none() | st.integers(0, 2),
        seed=st.integers(0, 1000),
    )
)
def test_every_request_ends_once_and_every_slot_is_free_after(policy: str, scenario: Scenario) -> None:
    workload = prepare(scenario, _trace(120, scenario.seed))
    world = World(scenario, workload)
    outcomes = replay(policy, scenario, workload, world=world)
    for outcome in outcomes:
        assert outcome.ending in {"answered", "late", "failed", "refused"}
        assert outcome.e2e <= workload.deadline + 1e-9
        assert (outcome.tier >= 0) == (outcome.ending == "answered")
        assert outcome.ttft is None or 0 <= outcome.ttft <= outcome.e2e
        assert outcome.hedges < max(outcome.calls, 1)
        assert outcome.cost >= 0
    assert [server.in_flight for server in world.servers] == [0, 0, 0]
    summed = figures(outcomes, workload)
    assert summed["attained"] + summed["late"] + summed["refused"] + summed["failed"] == pytest.approx(1.0)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_seed_determines_everything(policy: str) -> None:
    runs = []
    for seed in (3, 3, 4):
        scenario = Scenario(seed=seed)
        runs.append(replay(policy, scenario, prepare(scenario, _trace(400))))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.parametrize("load", [0.8, 1.1])
def test_ours_keeps_more_deadlines_than_the_least_busy_tier(load: float) -> None:
    """With a tier degraded, where answers are as long as prompts let expect; at the least it stays near without."""
    trace = [
        each._replace(output=max(each.output // 6, 1)) if each.prompt < 1500 else each for each in _trace(6000, seed=1)
    ]
    for degraded, ahead in ((1, 0.0), (None, -0.03)):
        scenario = Scenario(load=load, degraded=degraded)
        workload = prepare(scenario, trace)
        ours, theirs = (figures(replay(each, scenario, workload), workload) for each in ("nearhit", "least-busy"))
        assert ours["attained"] > theirs["attained"] + ahead
        assert ours["hedges"] <= 0.05


def test_the_load_is_a_share_of_the_capacity() -> None:
    """At a load a little below 1, with endless patience, work is done about as fast as it comes; above, it piles up."""
    tier = replace(PLAIN, slots=8, ttft=0.2, tpot=0.01, slowdown=0.5)
    queues = []
    for load in (0.9, 1.3):
        scenario = Scenario(tiers=(tier,), load=load, degraded=None, deadline=1e9, stalls=0.0)
        trace = _trace(4000)
        workload = prepare(scenario, trace)
        assert workload.span == pytest.approx(len(trace) / (load * capacity(scenario, trace)))
        outcomes = replay("round-robin", scenario, workload)
        queues.append(sum(outcome.e2e for outcome in outcomes[-400:]) / 400)
    assert queues[0] < 10.0
    assert queues[1] > 50.0


def test_a_degraded_tier_is_slower_in_its_window_only() -> None:
    tier = replace(PLAIN, slots=64, tpot=0.01, ttft_spread=0.0, tpot_spread=0.0)
    scenario = Scenario(tiers=(tier,), load=0.01, degraded=0, factor=3.0, deadline=1e9, errors=0.0, stalls=0.0)
    workload = prepare(scenario, [Arrival(float(at), 100, 101) for at in range(200)])
    outcomes = replay("random", scenario, workload)
    assert outcomes[10].e2e == outcomes[190].e2e == pytest.approx(2.0)
    assert outcomes[100].e2e == pytest.approx(6.0)


def test_balancers_choose_as_they_say() -> None:
    turn = RoundRobin()
    assert [turn.choose(allowed) for allowed in ([0, 1, 2], [0, 1, 2], [0, 1], [0, 1, 2])] == [0, 1, 0, 1]
    clock = Clock()
    servers = [Server(clock, PLAIN) for _ in range(3)]
    servers[0].submit(Job(_Log(clock), 1.0, 0.0, failed=False))
    servers[2].submit(Job(_Log(clock), 1.0, 0.0, failed=False))
    assert LeastBusy(servers, 0).choose([0, 1, 2]) == 1


def test_the_lowest_mean_keeps_its_nine_oldest_samples() -> None:
    lowest = LowestMeanLatency(2, 0)
    for _ in range(9):
        lowest.answered(0, 10.0, 10)
        lowest.answered(1, 30.0, 10)
    for _ in range(50):  # fifty slow answers in a row are one sample of ten
        lowest.answered(0, 60.0, 10)
    assert lowest.choose([0, 1]) == 0
    lowest.timed_out(0)
    assert lowest.choose([0, 1]) == 1
    assert LowestMeanLatency(1, 0).choose([0]) == 0


def _azure(folder: Path) -> Path:
    path = folder / "azure.csv"
    rows = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    rows += [f"2023-11-16 18:15:{second:02d}.6805900,{100 + second},{5 + second}" for second in range(60)]
    path.write_text("\n".join(rows))
    return path


def test_both_forms_of_a_trace_are_read(tmp_path: Path) -> None:
    read = read_trace(_azure(tmp_path), 3)
    assert read == [Arrival(0.0, 100, 5), Arrival(pytest.approx(1.0), 101, 6), Arrival(pytest.approx(2.0), 102, 7)]
    path = tmp_path / "mooncake.jsonl.gz"
    rows = [{"timestamp": at, "input_length": 7, "output_length": 2, "hash_ids": []} for at in (5000, 2000)]
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    assert read_trace(path) == [Arrival(0.0, 7, 2), Arrival(3.0, 7, 2)]


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "TIMESTAMP,ContextTokens,GeneratedTokens\nnoon,1,2\n"])
def test_what_is_no_trace_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"odd\.csv"):
        read_trace(path)
    with pytest.raises(InputError, match="absent"):
        read_trace(tmp_path / "absent.csv")


def test_scenarios_without_meaning_are_refused() -> None:
    wrong: list[Callable[[], Scenario]] = [
        lambda: Scenario(load=0.0),
        lambda: Scenario(deadline=-1.0),
        lambda: Scenario(factor=math.nan),
        lambda: Scenario(degraded=3),
    ]
    for make in wrong:
        with pytest.raises(OptionError):
            make()


def test_the_command_prints_one_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = str(_azure(tmp_path))
    assert (
        cli.main(["bench", "route", "--only", "replay", "--trace", trace, "--seeds", "2", "--load", "0.5", "--json"])
        == 0
    )
    document = json.loads(capsys.readouterr().out)
    assert "decide" not in document
    (replayed,) = document["replay"]
    assert (replayed["trace"], replayed["requests"], replayed["seeds"]) == ("azure.csv", 60, 2)
    assert set(replayed["policies"]) == set(POLICIES)
    for policy in replayed["policies"].values():
        assert policy["attained"]["least"] <= policy["attained"]["mean"] <= policy["attained"]["most"]
    picture = tmp_path / "replay.png"
    arguments = ["--trace", trace, "--seeds", "1", "--degraded", "none", "--plot", str(picture)]
    assert cli.main(["bench", "route", "--only", "replay", *arguments]) == 0
    printed = capsys.readouterr()
    assert "clairvoyant" in printed.out
    assert picture.read_bytes().startswith(b"\x89PNG")
    monkeypatch.setenv("NEARHIT_DATA", str(tmp_path))
    assert cli.main(["bench", "route", "--only", "replay"]) == 2
    assert "NEARHIT_DATA" in capsys.readouterr().err
    assert cli.main(["bench", "route", "--rounds", "1", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"decide"}
    for wrong in (["--seeds", "0"], ["--degraded", "huge"], ["--load", "-1"]):
        assert cli.main(["bench", "route", "--only", "replay", "--trace", trace, *wrong]) == 2
