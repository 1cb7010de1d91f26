"""The demo: hand-written requests played through the real embedder, cache, router and two real tiers.

- `script`: the requests, their answer classes and what should happen to each; reading the user's own prompts.
- `models`: what has to be on this machine before the first request, and the two tiers.
- `play`: sends the requests one by one and records what happened.
- `summary`: what the records add up to.
- `screens`: how records and summary look in a terminal.
"""
