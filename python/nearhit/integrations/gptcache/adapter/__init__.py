"""GPTCache's adapters: `api` (put and get) and `openai` (calls of the OpenAI package with the cache in front)."""
