"""One request through the pool: admission, plan, time limits, attempts, answer."""
