"""Code shared by the endpoints of OpenAI's API; its modules are imported directly."""
