"""Compacting conversations. Its modules are imported directly."""
