"""Reading the parameters of a request to a local generator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nearhit._errors import OptionError, TierUnsupportedError
from nearhit.tiers.options import check_number, check_whole

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_STOPS = 16
_MAX_STOP_LENGTH = 1000

_NOT_FOR_US = frozenset(
    {"stream", "stream_options", "user", "metadata", "store", "service_tier", "prompt_cache_key", "safety_identifier"}
)
"""Parameters that speak to a provider's bookkeeping and change nothing in the answer."""

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "top_logprobs": (0,),
    "tools": ([], ()),
    "functions": ([], ()),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}
"""Parameters whose effect the engine does not have, with the values that ask for none."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose tokens, and when to stop.

    Attributes:
        max_tokens: Most tokens of the answer; None where the caller sets no limit.
        stops: Stop strings.
        temperature: 0 takes the likeliest token every time.
        top_p: Choose among the likeliest tokens that together have this probability.
        top_k: Choose among this many of the likeliest tokens; 0 for all.
        repetition_penalty: Above 1, tokens that have occurred become less likely.
        no_repeat_ngram_size: No sequence of this many tokens occurs twice; 0 to allow it.
        min_tokens: Least tokens of the answer.
    """

    max_tokens: int | None = None
    stops: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    min_tokens: int = 0

    def engine_options(self) -> dict[str, Any]:
        """Returns the options of `ctranslate2.Generator.generate_batch`."""
        greedy = self.temperature == 0
        return {
            "beam_size": 1,
            "sampling_topk": 1 if greedy else self.top_k,
            "sampling_topp": 1.0 if greedy else self.top_p,
            "sampling_temperature": 1.0 if greedy else self.temperature,
            "repetition_penalty": self.repetition_penalty,
            "no_repeat_ngram_size": self.no_repeat_ngram_size,
            "min_length": self.min_tokens,
        }


def read_sampling(params: Mapping[str, Any], *, tier: str) -> Sampling:
    """Returns the parameters of a request, each understood or refused.

    Args:
        params: Parameters in the OpenAI form; `top_k`, `repetition_penalty`, `no_repeat_ngram_size` and `min_tokens` as
            other servers have added them.
        tier: Name of the tier, for errors.

    Raises:
        OptionError: A value out of its range.
        TierUnsupportedError: A parameter that this engine does not have, and that asks for something.
    """
    given = {name: value for name, value in params.items() if value is not None and name not in _NOT_FOR_US}
    given.pop("logprobs", None)  # always measured
    limits = [given.pop(name, None) for name in ("max_completion_tokens", "max_tokens")]
    for name in ("max_completion_tokens", "max_tokens"):
        check_whole(name, params.get(name), least=1)
    temperature = _number(given, "temperature", 0.0, least=0.0, most=100.0)
    sampling = Sampling(
        max_tokens=min((limit for limit in limits if limit is not None), default=None),
        stops=_stops(given.pop("stop", ())),
        temperature=temperature,
        top_p=max(_number(given, "top_p", 1.0, least=0.0, most=1.0), 1e-6),  # the engine refuses 0
        top_k=_whole(given, "top_k", 0, least=-1),
        repetition_penalty=_number(given, "repetition_penalty", 1.0, least=0.01, most=100.0),
        no_repeat_ngram_size=_whole(given, "no_repeat_ngram_size", 0, least=0),
        min_tokens=_whole(given, "min_tokens", 0, least=0),
    )
    seed = given.pop("seed", None)
    if seed is not None and temperature > 0:
        raise TierUnsupportedError(
            f"tier {tier!r} cannot fix the seed of one request: use temperature=0 for answers that repeat",
            tier=tier,
            needs=("seed",),
        )
    missing = tuple(name for name, value in given.items() if value not in _NEUTRAL.get(name, ()))
    if missing:
        raise TierUnsupportedError(
            f"tier {tier!r} runs in this process and does not have {', '.join(missing)}", tier=tier, needs=missing
        )
    return sampling


def _number(given: dict[str, Any], name: str, default: float, *, least: float, most: float) -> float:
    value = given.pop(name, default)
    check_number(name, value, least=least, most=most)
    return float(value)


def _whole(given: dict[str, Any], name: str, default: int, *, least: int) -> int:
    value = given.pop(name, default)
    check_whole(name, value, least=least)
    return max(int(value), 0)


def _stops(value: Any) -> tuple[str, ...]:
    stops = (value,) if isinstance(value, str) else value
    if not isinstance(stops, list | tuple) or not all(isinstance(stop, str) and stop for stop in stops):
        raise OptionError(f"stop must be a text or a list of texts, none empty, not {value!r}")
    if len(stops) > _MAX_STOPS or any(len(stop) > _MAX_STOP_LENGTH for stop in stops):
        raise OptionError(f"stop may hold {_MAX_STOPS} texts of {_MAX_STOP_LENGTH} characters at most")
    return tuple(stops)
