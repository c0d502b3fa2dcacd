"""OpenAI's types as they travel: request models and reply builders, without logic."""
