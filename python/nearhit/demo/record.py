"""What happened to one request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from nearhit._types import Usage

if TYPE_CHECKING:
    from nearhit._types import Span
    from nearhit.demo.script import Request

Outcome: TypeAlias = Literal["exact", "near", "miss"]
Verdict: TypeAlias = Literal["right", "false hit", "missed hit"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The best candidate that was not served.

    Attributes:
        prompt: The candidate's words, as far as they are known.
        similarity: Cosine between the request and the candidate.
        reason: Why it was refused.
    """

    prompt: str
    similarity: float
    reason: str


@dataclass(frozen=True, slots=True)
class Record:
    """What happened to one request.

    Attributes:
        number: Place in the play, from 1.
        request: The request.
        outcome: Answered by an exact hit, a near hit or, after a miss, by a tier.
        seconds: From the call to the end of the answer.
        similarity: Of the entry that was served; None on a miss.
        source: Number of the request whose answer was served; None on a miss, or if it is not known.
        source_class: Answer class of that request.
        answerable: Whether an earlier request of the same answer class had been answered; None without classes.
        tier: Name of the tier that answered; None on a hit.
        ttft: Seconds to the first content of the answer; None on a hit.
        usage: Tokens spent on this answer; zero on a hit.
        saved_seconds: What the answer took when a tier made it, less what the hit took; zero on a miss.
        saved_tokens: What the answer took in tokens when a tier made it; zero on a miss.
        refusal: On a miss, the best candidate that was refused.
        spans: Where the time went.
        answer: The answer's text.
    """

    number: int
    request: Request
    outcome: Outcome
    seconds: float
    similarity: float | None = None
    source: int | None = None
    source_class: str | None = None
    answerable: bool | None = None
    tier: str | None = None
    ttft: float | None = None
    usage: Usage = field(default_factory=Usage)
    saved_seconds: float = 0.0
    saved_tokens: int = 0
    refusal: Refusal | None = None
    spans: tuple[Span, ...] = ()
    answer: str = ""

    @property
    def verdict(self) -> Verdict | None:
        """The outcome judged by the answer classes; None where they are unknown."""
        if self.answerable is None:
            return None
        if self.outcome == "miss":
            return "missed hit" if self.answerable else "right"
        if self.source_class is None:
            return None
        return "right" if self.source_class == self.request.answer_class else "false hit"

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values; times in seconds."""
        prompt = self.request.prompt
        return {
            "number": self.number,
            **({"prompt": prompt} if isinstance(prompt, str) else {"messages": list(prompt)}),
            "class": self.request.answer_class,
            "expect": self.request.expect,
            "outcome": self.outcome,
            "verdict": self.verdict,
            "similarity": self.similarity,
            "source": self.source,
            "tier": self.tier,
            "seconds": self.seconds,
            "ttft": self.ttft,
            "prompt_tokens": self.usage.prompt_tokens,
            "completion_tokens": self.usage.completion_tokens,
            "saved_seconds": self.saved_seconds,
            "saved_tokens": self.saved_tokens,
            "refusal": None
            if self.refusal is None
            else {
                "prompt": self.refusal.prompt,
                "similarity": self.refusal.similarity,
                "reason": self.refusal.reason,
            },
            "spans": [
                {"name": span.name, "start": span.start, "seconds": span.duration, **span.attributes}
                for span in self.spans
            ],
            "answer": self.answer,
        }
