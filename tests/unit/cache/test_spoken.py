"""What an answer says, whatever stored it: a function, a router, a wrapped client, a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nearhit import Cache, FunctionTier, Router
from nearhit.answers import Recorder
from nearhit.cache._spoken import spoken

if TYPE_CHECKING:
    from nearhit.cache import Trial

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def chat(**message: Any) -> dict[str, Any]:
    return {"id": "x", "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **message}}]}


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("Lisbon.", "Lisbon."),
        ({"text": "Lisbon.", "usage": [1, 2]}, "Lisbon."),
        (chat(content="Lisbon."), "Lisbon."),
        ({"choices": [{"text": "Lisbon.", "index": 0}]}, "Lisbon."),
        (
            {
                "output": [
                    {"type": "reasoning"},
                    {"type": "message", "content": [{"type": "output_text", "text": "Lisbon."}]},
                ]
            },
            "Lisbon.",
        ),
        (
            (
                b': nearhit responses 0 0\n\ndata: {"type":"response.output_text.delta","delta":"Lis"}\n\n'
                b'data: {"type":"response.output_text.delta","delta":"bon."}\n\n'
            ),
            "Lisbon.",
        ),
    ],
)
def test_the_text_is_found(answer: Any, text: str) -> None:
    assert spoken(answer) == text


@pytest.mark.parametrize(
    "answer",
    [
        b"\x89PNG",
        7,
        None,
        {"a": 1},
        chat(content=None, tool_calls=[CALL]),
        chat(content="Let me see.", tool_calls=[CALL]),
        {"choices": []},
        {"choices": [{"text": "a"}, {"text": "b"}]},
        {"choices": 3},
        {"output": [{"type": "function_call"}, {"type": "message", "content": [{"text": "a"}]}]},
        {"output": [None]},
        b": nearhit chat 0 0\n\ndata: nothing\n\n",
    ],
)
def test_what_is_more_than_a_text_stays_as_it_is(answer: Any) -> None:
    assert spoken(answer) is answer


def test_a_recorded_stream_says_what_its_deltas_say() -> None:
    recorder = Recorder("chat", {"messages": []})
    for piece in ("Lis", "bon."):
        recorder.feed(b'data: {"choices": [{"index": 0, "delta": {"content": "%b"}}]}\n\n' % piece.encode())
    recorder.feed(b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n')
    answer = recorder.finish(ended=True)
    assert answer is not None
    assert spoken(answer.stored) == "Lisbon."


def test_the_judge_of_a_router_sees_texts() -> None:
    trials: list[Trial] = []
    cache = Cache(Nearby(), policy="verified", delta=1e-6, exploration=0.0, threshold=0.8, judge=trials.append)
    router = Router([FunctionTier("t", lambda messages: f"Answer {len(messages[-1]['content'])}")], cache=cache)
    router.complete("How do I reset my password?")
    router.complete("How do I reset my password")
    cache.flush()
    ((answer, kept),) = [(trial.answer, trial.candidate_answer) for trial in trials]
    assert (answer, kept) == ("Answer 26", "Answer 27")


class Nearby:
    """All texts are near each other."""

    dim, id = 2, "nearby"

    def embed(self, texts: list[str]) -> Any:
        return np.array([[1.0, 0.001 * len(text)] for text in texts], dtype=np.float32)
