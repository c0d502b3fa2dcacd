"""The OpenAI door: HTTP requests are decoded, handed to the core, and its events encoded.

It holds no logic of completions: what a request means is the core's business, how
OpenAI spells it is this package's.
"""
