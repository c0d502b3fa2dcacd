"""`make probe`: probe the CLI of the installed SDK and write the report that ships with the
package."""

from __future__ import annotations

import asyncio
import sys
from importlib.util import find_spec
from pathlib import Path

from bridge.probe.bundled import Shipped, installed_versions
from bridge.probe.report import missing
from bridge.probe.run import probe


def main() -> int:
    """Write the report, or print what the CLI lacks; return the exit code."""
    spec = find_spec("claude_agent_sdk")
    assert spec is not None
    assert spec.origin is not None
    cli = Path(spec.origin).parent / "_bundled" / "claude"
    versions = installed_versions(cli)
    if versions is None:
        print(f"{cli} is not the CLI that claude-agent-sdk installed.", file=sys.stderr)
        return 1
    report = asyncio.run(probe(cli))
    if report.lacking:
        print("Not written. This CLI lacks:", *missing(report), sep="\n  - ", file=sys.stderr)
        return 1
    sdk, version = versions
    Shipped(sdk, version, sorted(report.found)).write()
    print(f"claude-agent-sdk {sdk}, Claude Code {version}: all {len(report.found)} behaviours work")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
