"""Every error nearhit raises on purpose.

Every class derives from `Error`:

- Error
    ├── InputError (ValueError)
    │   ├── DimensionError        vector of another length than the index
    │   ├── NotFiniteError        NaN or infinity in a vector
    │   ├── ZeroVectorError       a vector without direction
    │   ├── ThresholdError        similarity threshold outside [-1, 1]
    │   ├── EmptyPromptError      nothing to look up
    │   ├── RequestError          prompt or messages that cannot be read
    │   ├── OptionError           a value out of its range
    │   │   └── UnknownOptionError (TypeError)   no such option; suggests the nearest one
    │   └── TooLargeError         an answer that would not fit into an empty cache
    ├── StorageError              the file system refused: no space, no permission
    │   ├── CorruptFileError      a damaged file, or one that is not ours
    │   └── StorageInUseError     another process writes the file
    ├── MissingDependencyError (ImportError)   an extra is not installed
    ├── StreamBrokenError         a memoised stream that another caller's call feeds broke off
    ├── ReentrancyError (RuntimeError)   a synchronous call from inside the event loop it would wait for
    ├── ModelError
    │   ├── ModelNotFoundError    no such model here; says how to fetch it
    │   ├── ModelDownloadError    no network, no such package, or not the expected file
    │   ├── ModelFormatError      unknown architecture, truncated or inconsistent files
    │   └── EmbeddingError        the embedder failed or returned something unusable
    │       ├── EmbedderBusyError     too many texts wait for it already
    │       └── EmbeddingTimeoutError (TimeoutError)   it took longer than it was allowed to
    └── TierError                 a tier could not answer
        ├── TierTimeoutError      connect, first token, stall or total time is over
        ├── TierConnectionError   nobody listens, or the connection broke
        ├── TierStatusError       the server said no (.status, .retry_after)
        │   └── TierRateLimitError  429
        ├── TierProtocolError     an answer that is not what the API promises
        ├── TierCancelledError    the caller went away
        ├── TierBusyError         no slot, and no place in the queue or none in time; nothing was sent
        ├── TierClosedError       the tier was closed
        ├── TierUnsupportedError  the request needs what the tier cannot do (.needs); nothing was sent
        │   └── ContextLengthError    more tokens than the model's window (.tokens, .limit)
        └── NoTierError           no tier can take the request
            └── DeadlineError     none would make the deadline
"""

from __future__ import annotations


class Error(Exception):
    """Base of every error that nearhit raises on purpose."""


class InputError(Error, ValueError):
    """A value given by the caller cannot be used."""


class DimensionError(InputError):
    """A vector's length differs from the index dimension."""


class NotFiniteError(InputError):
    """A vector holds NaN or an infinity."""


class ZeroVectorError(InputError):
    """A vector of zeros has no direction to compare."""


class ThresholdError(InputError):
    """A similarity threshold outside [-1, 1], or NaN."""


class EmptyPromptError(InputError):
    """The prompt is empty or only white space."""


class RequestError(InputError):
    """The prompt or the messages cannot be read."""


class OptionError(InputError):
    """An unknown option, or a value out of its range."""


class UnknownOptionError(OptionError, TypeError):
    """There is no option of this name; the message suggests the nearest one."""


class TooLargeError(InputError):
    """An answer takes more bytes than the whole cache, or its scope's quota, may hold."""


class StorageError(Error):
    """The file system refused: no space, no permission, no such folder."""


class CorruptFileError(StorageError):
    """A file is damaged, or not one of nearhit's."""


class StorageInUseError(StorageError):
    """A durable cache is being written by another process, or by another cache of this one."""


class StorageWarning(UserWarning):
    """Opening a durable cache brought damage or foreign vectors to light; what is served is right all the same."""


class BackendWarning(UserWarning):
    """A shared tier cannot be reached, or cannot do all that was asked of it; the cache goes on with what there is."""


class MissingDependencyError(Error, ImportError):
    """An optional dependency is not installed; the message names the extra."""


class StreamBrokenError(Error):
    """A memoised stream broke off: the call of another listener, which it came from, was interrupted or got stuck."""


class ReentrancyError(Error, RuntimeError):
    """A synchronous call made from inside the event loop that would have to answer it; await the async method."""


class ModelError(Error):
    """A model cannot be used."""


class ModelNotFoundError(ModelError):
    """No such model on this machine; the message says how to fetch it."""


class ModelDownloadError(ModelError):
    """A model could not be downloaded: no network, no such package or repository, or not the expected file."""


class ModelFormatError(ModelError):
    """The model's files are truncated, inconsistent or of an unknown architecture."""


class EmbeddingError(ModelError):
    """The embedder failed, or returned something that is not a unit vector of its dimension."""


class EmbedderBusyError(EmbeddingError):
    """Too many texts wait for the embedder already; this one was not queued. To a cache's lookup it is a miss."""


class EmbeddingTimeoutError(EmbeddingError, TimeoutError):
    """The embedder took longer than this request allowed (`patience`, `nearhit.embed.deadline`).

    To a cache's lookup it is a miss.
    """


class TierError(Error):
    """A tier could not answer.

    Attributes:
        tier: Name of the tier.
    """

    def __init__(self, message: str, *, tier: str = "") -> None:
        super().__init__(message)
        self.tier = tier


class TierTimeoutError(TierError, TimeoutError):
    """Connect, first content, stall or total time is over.

    Attributes:
        phase: Which limit passed: "queue", "connect", "first_token", "stall" or "total".
    """

    def __init__(self, message: str, *, tier: str = "", phase: str = "total") -> None:
        super().__init__(message, tier=tier)
        self.phase = phase


class TierConnectionError(TierError):
    """Nobody listens at the address, or the connection broke."""


class TierStatusError(TierError):
    """The server answered with an error status.

    Attributes:
        status: HTTP status.
        retry_after: Seconds the server asked to wait, if it did.
        body: The server's own words, cut to a readable length.
    """

    def __init__(
        self, message: str, *, tier: str = "", status: int, retry_after: float | None = None, body: str = ""
    ) -> None:
        super().__init__(message, tier=tier)
        self.status = status
        self.retry_after = retry_after
        self.body = body


class TierRateLimitError(TierStatusError):
    """The server answered 429."""


class TierProtocolError(TierError):
    """The answer is not what the API promises."""


class TierCancelledError(TierError):
    """The caller went away before the answer was complete."""


class TierBusyError(TierError):
    """Every slot and every place in the queue is taken, or its turn would come too late; nothing was sent."""


class TierClosedError(TierError):
    """The tier was closed."""


class TierUnsupportedError(TierError):
    """The request needs something that the tier cannot do; nothing was sent, or the server refused it as such.

    Attributes:
        needs: What is missing: "tools", "images", "audio", "json", "context" or the name of a parameter.
    """

    def __init__(self, message: str, *, tier: str = "", needs: tuple[str, ...] = ()) -> None:
        super().__init__(message, tier=tier)
        self.needs = needs


class ContextLengthError(TierUnsupportedError):
    """The prompt, or the prompt with the tokens asked for, is longer than the model's window; nothing was sent.

    Attributes:
        tokens: Tokens of the prompt and of the answer asked for.
        limit: The model's window, in tokens.
    """

    def __init__(self, message: str, *, tier: str = "", tokens: int, limit: int) -> None:
        super().__init__(message, tier=tier, needs=("context",))
        self.tokens = tokens
        self.limit = limit


class NoTierError(TierError):
    """No tier can take the request."""


class DeadlineError(NoTierError, TimeoutError):
    """No tier is predicted to answer within the deadline, or the deadline has passed."""
