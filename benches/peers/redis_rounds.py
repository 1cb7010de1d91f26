"""Versions of the shared tier beside each other and beside RedisVL: one server, rounds alternating.

    python benches/peers/redis_rounds.py now=python before=/another/checkout/python [--rounds 5] [--apart]

Each version runs in a process of its own with that folder as its PYTHONPATH (a checkout needs its `_core` beside it);
"redisvl" is always there. Tells processor time as well, the server's and the caller's, for a busy machine stretches
times more than these. "floor" sends the very commands of a lookup over a bare socket, one at a time and a hundred at
once, and parses the replies: what no client on this server can be quicker than.
"""

# ruff: noqa: SLF001, S603 - looks inside our own cache; one script from top to bottom
from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parents[1]))
ENGINES = ("search", "vectorset")


def work(url: str, entries: int, name: str) -> None:
    """One process: does what it is told on stdin, and says on stdout how long it took."""
    from redis_lookup import TOGETHER, Ours, Peer, _together, vectors  # noqa: PLC0415 - as this process finds it

    made, asked = vectors(entries)
    loop = asyncio.new_event_loop()
    if name == "redisvl":
        subjects: dict[str, Any] = {"redisvl": Peer(url)}
    else:
        subjects = {f"{name} {engine}": Ours(url, namespace=name + engine, engine=engine) for engine in ENGINES}
    for line in sys.stdin:
        what, subject = line.strip().split(" ", 1)
        one = subjects[subject]
        spent = time.process_time()
        answer: dict[str, Any] = {}
        if what == "fill":
            answer["rate"] = one.fill(made)
            spent = (time.process_time() - spent) / len(made)
        elif what == "lone":
            one.forget()
            times, hits = [], 0
            for number, vector in enumerate(asked):
                started = time.perf_counter()
                hits += one.check(number, vector)
                times.append(time.perf_counter() - started)
            answer |= {"times": times, "hits": hits / len(asked)}
            spent = (time.process_time() - spent) / len(asked)
        elif what == "together":
            one.forget()
            answer["rate"], _ = loop.run_until_complete(_together(one, asked, TOGETHER))
            spent = (time.process_time() - spent) / len(asked)
        elif what == "floor":
            answer |= floor(one, asked)
        print(json.dumps({**answer, "spent": spent}), flush=True)
    os._exit(0)


def floor(one: Any, asked: Any) -> dict[str, Any]:
    """A lookup's commands over a bare socket."""
    import hiredis  # noqa: PLC0415 - an extra

    from nearhit._core import Request  # noqa: PLC0415 - of the version under test

    session = one.cache._backend._session
    address = session.fleet.first.address
    packed = []
    for number, vector in enumerate(asked):
        request = Request(f"asked prompt {number}", None)
        commands = session.questions(request.scope, request.fingerprint, vector, 0.9)
        packed.append(b"".join(hiredis.pack_command(command) for _, command in commands))
    with socket.create_connection(address.hosts[0]) as bare:
        bare.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = hiredis.Reader()

        def ask(data: bytes, count: int) -> None:
            bare.sendall(data)
            while count:
                if reader.gets() is False:
                    reader.feed(bare.recv(1 << 18))
                else:
                    count -= 1

        ask(hiredis.pack_command(("HELLO", 3)), 1)
        times = []
        for data in packed:
            started = time.perf_counter()
            ask(data, 2)
            times.append(time.perf_counter() - started)
        started = time.perf_counter()
        for start in range(0, len(packed), 100):
            ask(b"".join(packed[start : start + 100]), 200)
        return {"times": times, "rate": len(packed) / (time.perf_counter() - started)}


def _place(server: int, *, apart: bool) -> None:
    """Gives the server a core that neither this process nor the workers, which it starts later, use; if `apart`.

    Of itself the kernel likes to put two processes that talk to each other on one core of a busy machine, and then
    nothing goes on at once.
    """
    if not apart:
        return
    first, *others = sorted(os.sched_getaffinity(0))
    for thread in Path(f"/proc/{server}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {first})
    os.sched_setaffinity(0, others)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", nargs="*", default=["now=python"], metavar="NAME=PYTHONPATH")
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--apart", action="store_true", help="the server on a core of its own, as on another machine")
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.url, args.entries, args.work)
    from tests.support.redis_servers import RedisServer  # noqa: PLC0415 - not for the workers

    paths = dict(version.split("=", 1) for version in args.versions)
    with RedisServer("search") as server:
        assert server.process is not None
        clock = (~server.process.pid << 3) | 2  # the server's processor time
        _place(server.process.pid, apart=args.apart)
        workers = {
            name: subprocess.Popen(
                [
                    sys.executable,
                    "-W",
                    "ignore",
                    __file__,
                    "--url",
                    server.url,
                    "--work",
                    name,
                    "--entries",
                    str(args.entries),
                ],
                env={**os.environ, "PYTHONPATH": str(Path(paths.get(name, "python")).absolute())},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for name in (*paths, "redisvl")
        }
        subjects = [
            (f"{name} {engine}", worker) for name, worker in workers.items() for engine in ENGINES if name in paths
        ]
        subjects.append(("redisvl", workers["redisvl"]))
        results: dict[str, dict[str, list[Any]]] = {name: {} for name, _ in subjects}

        def tell(name: str, worker: subprocess.Popen[str], what: str, each: int) -> None:
            assert worker.stdin is not None
            assert worker.stdout is not None
            started = time.clock_gettime(clock)
            print(what, name, file=worker.stdin, flush=True)
            answer = json.loads(worker.stdout.readline())
            answer["server"] = (time.clock_gettime(clock) - started) / each
            for field, value in answer.items():
                kept = results[name].setdefault(f"{what} {field}", [])
                kept.extend(value) if field == "times" else kept.append(value)

        for name, worker in subjects:
            tell(name, worker, "fill", args.entries)
        for number in range(args.rounds):
            for name, worker in subjects:
                tell(name, worker, "lone", 200)
                tell(name, worker, "together", 200)
                if name.startswith("now"):
                    tell(name, worker, "floor", 400)
            print(f"round {number + 1} of {args.rounds}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
        for worker in workers.values():
            worker.kill()
            worker.communicate()
    told = {
        name: {field: statistics.median(values) for field, values in fields.items()} for name, fields in results.items()
    }
    peer = told["redisvl"]
    for name, fields in told.items():
        fields["lone ratio"] = fields["lone times"] / peer["lone times"]
        fields["together ratio"] = fields["together rate"] / peer["together rate"]
        fields["fill ratio"] = fields["fill rate"] / peer["fill rate"]
        print(json.dumps({"subject": name, **{field: float(f"{value:.4g}") for field, value in fields.items()}}))


if __name__ == "__main__":
    main()
