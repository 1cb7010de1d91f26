"""GPTCache's configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearhit._errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable

_GREATEST_DISTANCE = 4.0
"""Squared distance of two opposite unit vectors."""


class Config:
    """GPTCache's configuration.

    Args:
        log_time_func: Not used.
        similarity_threshold: From 0 to 1; with the default evaluation, a hit needs a cosine of at least
            2 * similarity_threshold - 1.
        prompts: Texts that `last_content_without_prompt` leaves out.
        template: The template whose values `last_content_without_template` takes.
        auto_flush: Not used: nearhit writes by itself.
        enable_token_counter: Whether answers out of the cache tell in "saved_token" what they spared.
        input_summary_len: Not used.
        context_len: Not used.
        skip_list: Not used.
        data_check: Not used.
        disable_report: Not used.

    Raises:
        OptionError: A threshold outside [0, 1].

    Example:
        >>> Config(similarity_threshold=0.95).cosine
        0.9
    """

    def __init__(
        self,
        log_time_func: Callable[[str, float], None] | None = None,
        similarity_threshold: float = 0.8,
        prompts: list[str] | None = None,
        template: str | None = None,
        auto_flush: int = 20,
        enable_token_counter: bool = True,  # noqa: FBT001, FBT002 - GPTCache's signature
        input_summary_len: int | None = None,
        context_len: int | None = None,
        skip_list: list[str] | None = None,
        data_check: bool = False,  # noqa: FBT001, FBT002 - GPTCache's signature
        disable_report: bool = False,  # noqa: FBT001, FBT002 - GPTCache's signature
    ) -> None:
        if not 0 <= similarity_threshold <= 1:
            raise OptionError(f"option similarity_threshold={similarity_threshold!r} is not valid: expected 0 to 1")
        self.log_time_func = log_time_func
        self.similarity_threshold = similarity_threshold
        self.prompts = prompts
        self.template = template
        self.auto_flush = auto_flush
        self.enable_token_counter = enable_token_counter
        self.input_summary_len = input_summary_len
        self.context_len = context_len
        self.skip_list = ["system", "assistant"] if skip_list is None else skip_list
        self.data_check = data_check
        self.disable_report = disable_report

    @property
    def cosine(self) -> float:
        """Least cosine similarity of a hit, with the default evaluation."""
        return self.cosine_within(_GREATEST_DISTANCE)

    def cosine_within(self, max_distance: float) -> float:
        """Least cosine similarity of a hit.

        Args:
            max_distance: What the evaluation takes for the greatest squared distance of two vectors.
        """
        return max(-1.0, round(1 - (1 - self.similarity_threshold) * max_distance / 2, 9))
