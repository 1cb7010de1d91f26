"""Whole answers of the OpenAI calls: which may be kept, how a stream becomes one, and how one is played back."""

from __future__ import annotations

from nearhit.answers.admission import Call, bypass_reason, is_complete
from nearhit.answers.recording import Recorder
from nearhit.answers.replay import Answer, error_event, event_bytes

__all__ = ["Answer", "Call", "Recorder", "bypass_reason", "error_event", "event_bytes", "is_complete"]
