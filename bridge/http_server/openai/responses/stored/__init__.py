"""Responses that are stored. Its modules are imported directly."""
