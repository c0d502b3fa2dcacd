"""The overhead of the bridge compared with driving Claude Code directly: `python -m benchmarks`."""
