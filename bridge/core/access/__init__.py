"""Keys, who may come in, and the limits of each key."""
