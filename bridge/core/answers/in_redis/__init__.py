"""What the servers of a fleet share of answers. Its modules are imported directly."""
