"""From OpenAI's requests to the neutral model: pure functions, with errors that name a field."""
