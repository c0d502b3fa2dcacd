"""All that knows the words of the `claude` CLI, and nothing else does."""
