"""A connection of an event loop's own, over a pair of sockets."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace

from nearhit.backends._direct import Intake
from nearhit.backends._loop_lane import LoopLane
from nearhit.backends._wire import pack

QUESTION = pack(("PING",))


async def test_a_server_has_work_before_a_long_turn_of_the_loop_ends():
    ours, theirs = socket.socketpair()
    with theirs:
        lane = LoopLane(asyncio.get_running_loop(), SimpleNamespace(socket=ours, intake=Intake(ours)), 5.0)
        lane.start()
        answers = [lane.ask(QUESTION, 1) for _ in range(40)]
        at_once = theirs.recv(1 << 16).count(QUESTION)
        assert 0 < at_once < 40
        theirs.sendall(b"+PONG\r\n" * at_once)
        await asyncio.gather(*answers[:at_once])
        rest = theirs.recv(1 << 16).count(QUESTION)
        assert at_once + rest == 40
        theirs.sendall(b"+PONG\r\n" * rest)
        assert await asyncio.gather(*answers) == [[b"PONG"]] * 40
        lane.close()
        await asyncio.sleep(0)
