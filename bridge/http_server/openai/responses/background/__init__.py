"""Responses that go on without their client. Its modules are imported directly."""
