"""The Conversations API. Its modules are imported directly."""
