"""From core events to what OpenAI's clients read."""
