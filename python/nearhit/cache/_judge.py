"""Whether an answer that was kept would have done in place of the one just made: labels for the verified policy."""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections import deque
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from nearhit._config import parse_count
from nearhit._errors import OptionError
from nearhit.cache._embedding import embed
from nearhit.cache._spoken import spoken

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearhit._core import CacheCore, Hit, Request
    from nearhit._types import Embedder

_log = logging.getLogger("nearhit.cache")

_WAITING: Final = 256  # trials that may wait for a slow judge
_SAME_MEANING: Final = 0.95  # least cosine of two answers that "embedding" takes for one
_MINUTE: Final = 60.0
_QUESTION: Final = (
    "Two questions were answered. Say whether the first answer would also be a correct and complete answer to the "
    "second question. Reply with yes or no only.\n\n"
    "First question: {candidate}\nFirst answer: {candidate_answer}\n\n"
    "Second question: {prompt}\nAnother answer to it: {answer}"
)


@dataclass(frozen=True, slots=True)
class Trial:
    """A near candidate that was not served, and the answer that was made instead.

    Attributes:
        prompt: What was asked.
        answer: What the model answered: its text, where a router or a wrapped client stored more than that.
        candidate: The prompt that had been answered before.
        candidate_answer: Its answer.
        similarity: Cosine of the two prompts.
        confidence: Probability that the answers agree, as the verifier sees it.
    """

    prompt: str
    answer: Any
    candidate: str
    candidate_answer: Any
    similarity: float
    confidence: float


Judge: TypeAlias = "Callable[[Trial], bool | None]"
JudgeOption: TypeAlias = "Literal['exact', 'embedding'] | Judge"


class TierJudge:
    """Asks a tier whether the kept answer would have done.

    Args:
        tier: A tier such as `nearhit.OpenAITier`; anything with `complete(messages)` whose result has a `text`.

    Example:
        >>> from nearhit import FunctionTier
        >>> from nearhit.cache import TierJudge, Trial
        >>> judge = TierJudge(FunctionTier("judge", lambda messages: "Yes."))
        >>> judge(Trial("Capital of Peru?", "Lima.", "What is Peru's capital?", "It is Lima.", 0.93, 0.8))
        True
    """

    def __init__(self, tier: Any) -> None:
        if not callable(getattr(tier, "complete", None)):
            raise OptionError(f"option tier={tier!r} cannot judge: it needs complete(messages)")
        self._tier = tier

    def __call__(self, trial: Trial) -> bool | None:
        """The tier's word; None if it said neither yes nor no."""
        question = _QUESTION.format(
            candidate=trial.candidate,
            candidate_answer=trial.candidate_answer,
            prompt=trial.prompt,
            answer=trial.answer,
        )
        said = str(self._tier.complete([{"role": "user", "content": question}]).text)
        first = next(iter(said.casefold().split()), "").strip(".,:;!*\"'")
        return {"yes": True, "no": False}.get(first)


def same_answer(trial: Trial) -> bool:
    """Whether both answers are the same but for case, spacing and a full stop."""
    return bool(_plain(trial.answer) == _plain(trial.candidate_answer))


class Judging:
    """Judges trials and teaches the cache; a judge that may take long has a thread of its own.

    Args:
        core: The cache.
        embedder: The cache's embedder.
        judge: "exact", "embedding" or a function.
        budget: Most trials judged a minute; None for no bound.

    Raises:
        OptionError: Another judge, or "embedding" without an embedder.
    """

    def __init__(self, core: CacheCore, embedder: Embedder | None, judge: Judge | str, budget: int | None) -> None:
        self._core = core
        self._judge = _judge_of(judge, embedder)
        self.waits = judge != "exact"
        self._budget = parse_count("judge_budget", budget)
        self._begun: deque[float] = deque(maxlen=self._budget)
        self._trials: queue.Queue[tuple[Hit, Trial] | None] = queue.Queue(_WAITING)
        self._worker: tuple[int, threading.Thread] | None = None
        self._lock = threading.Lock()
        self.unjudged = 0

    def answered(self, request: Request, answer: Any) -> None:
        """Judges what was tried for a request, now that it has been answered."""
        tried = self._core.exploration(request)
        if tried is None:
            return
        trial = Trial(
            request.text or "",
            spoken(answer),
            tried.prompt or "",
            spoken(tried.response),
            tried.similarity,
            tried.confidence or 0.0,
        )
        if not self.waits:
            self._learn(tried, trial)
        elif self._affordable():
            self._hand_over(tried, trial)

    def flush(self) -> None:
        """Waits until every trial handed over so far has been judged."""
        if self._worker is not None and self._worker[0] == os.getpid():
            self._trials.join()

    def close(self) -> None:
        """Lets the thread end once it has judged what waits."""
        with self._lock:
            if self._worker is not None and self._worker[0] == os.getpid():
                self._trials.put(None)
            self._worker = None

    def _affordable(self) -> bool:
        if self._budget is None:
            return True
        with self._lock:
            now = monotonic()
            if len(self._begun) == self._budget and now - self._begun[0] < _MINUTE:
                self.unjudged += 1
                return False
            self._begun.append(now)
            return True

    def _hand_over(self, tried: Hit, trial: Trial) -> None:
        with self._lock:
            if self._worker is None or self._worker[0] != os.getpid():
                # After a fork the thread is the parent's, and so is what waits for it.
                self._trials = queue.Queue(_WAITING)
                thread = threading.Thread(target=self._work, args=(self._trials,), name="nearhit-judge", daemon=True)
                self._worker = (os.getpid(), thread)
                thread.start()
            try:
                self._trials.put_nowait((tried, trial))
            except queue.Full:
                self.unjudged += 1

    def _work(self, trials: queue.Queue[tuple[Hit, Trial] | None]) -> None:
        while True:
            case = trials.get()
            try:
                if case is None:
                    return
                self._learn(*case)
            finally:
                trials.task_done()

    def _learn(self, tried: Hit, trial: Trial) -> None:
        try:
            right = self._judge(trial)
            if right is not None:
                self._core.learn(tried, bool(right))
                return
        except Exception:  # noqa: BLE001 - a user's function may raise anything
            # The answer has been given and stored: that it could not be judged must not undo that.
            if self.unjudged == 0:
                _log.exception("the judge failed; the request is not affected, and further failures are only counted")
        self.unjudged += 1


def _judge_of(judge: Judge | str, embedder: Embedder | None) -> Judge:
    if judge == "exact":
        return same_answer
    if judge == "embedding":
        if embedder is None:
            raise OptionError('option judge="embedding" needs an embedder to compare answers with')
        return _Meaning(embedder)
    if isinstance(judge, str) or not callable(judge):
        raise OptionError(
            f'option judge={judge!r} is not valid: expected "exact", "embedding" or a function of a Trial'
        )
    return judge


class _Meaning:
    """Whether two answers mean the same to an embedder."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def __call__(self, trial: Trial) -> bool | None:
        if not isinstance(trial.answer, str) or not isinstance(trial.candidate_answer, str):
            return same_answer(trial)
        if same_answer(trial):
            return True
        if not trial.answer.strip() or not trial.candidate_answer.strip():
            return False
        ours, theirs = embed(self._embedder, [trial.answer, trial.candidate_answer])
        if ours.truncated or theirs.truncated:
            return None  # what was cut off may be where they differ
        return float(ours.vector @ theirs.vector) >= _SAME_MEANING


def _plain(answer: Any) -> Any:
    return " ".join(answer.casefold().split()).rstrip(".") if isinstance(answer, str) else answer
