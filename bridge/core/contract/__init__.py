"""What both sides of the engine share: requests, events, errors, and the seam."""
