"""Where the server listens, and the limits of the connections to it."""
