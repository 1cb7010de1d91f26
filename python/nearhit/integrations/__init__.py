"""nearhit where other libraries expect a cache, an embedder or a router of their own.

- `nearhit.integrations.langchain`: a LangChain `BaseCache`, and embeddings both ways.
- `nearhit.integrations.litellm`: a LiteLLM cache, and a routing strategy for its router.
- `nearhit.integrations.llama_index`: a LlamaIndex LLM with a cache in front, and embeddings.
- `nearhit.integrations.redisvl`, `nearhit.integrations.gptcache`: the names and units of those two libraries' caches,
  so that an import line is all that changes.

Each module needs the library it is for (`pip install 'nearhit[langchain]'`...), the last two need none.
"""
