"""GPTCache's names, answered by nearhit: import lines are all that changes.

    from gptcache import cache, Config                                         # before
    from gptcache.adapter import openai
    from gptcache.adapter.api import get, init_similar_cache, put
    from gptcache.processor.pre import get_prompt

    from nearhit.integrations.gptcache import cache, Config                    # after
    from nearhit.integrations.gptcache.adapter import openai
    from nearhit.integrations.gptcache.adapter.api import get, init_similar_cache, put
    from nearhit.integrations.gptcache.processor.pre import get_prompt

There are `adapter.api`, `adapter.openai` (`ChatCompletion` and `Completion`, with the openai package of today
underneath), `config`, `core`, `embedding`, `manager`, `processor.pre`, `processor.post`, `session` and
`similarity_evaluation`. Names, arguments and units are GPTCache's. Its `similarity_threshold` t, from 0 to 1, is a
share of the greatest score, and its default score is 4 minus the squared distance of two unit vectors, so that t asks
for a cosine of at least 2 t - 1: the default of 0.8 is a cosine of 0.6. That is looser than nearhit would be, which is
why candidates are checked by nearhit's guards and verifier (`policy="static"` does without, as GPTCache does).

What differs, because an answer must not be wrong or somebody else's: the model, the tools, the parameters and the
earlier turns of a chat must match exactly (`Cache.init(scope=...)` says otherwise), and only whole answers are kept.
"""

from __future__ import annotations

from nearhit.integrations.gptcache.adapter.api import get, init_similar_cache, put
from nearhit.integrations.gptcache.config import Config
from nearhit.integrations.gptcache.core import Cache, cache
from nearhit.integrations.gptcache.embedding import FunctionEmbedder
from nearhit.integrations.gptcache.processor.pre import get_prompt

__all__ = ["Cache", "Config", "FunctionEmbedder", "cache", "get", "get_prompt", "init_similar_cache", "put"]
