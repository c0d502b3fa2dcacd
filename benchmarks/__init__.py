"""What the bridge costs over driving Claude Code directly: `python -m benchmarks`."""
