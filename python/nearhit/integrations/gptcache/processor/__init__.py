"""GPTCache's processors: what of a request is compared (`pre`), and which of several answers is given (`post`)."""
