"""What SIGHUP does: it takes in what can change while the server runs, and names what cannot."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bridge.core.claude import read_user_settings
from bridge.server.addresses import ListenError

if TYPE_CHECKING:
    from bridge.server.settings import Settings
    from bridge.server.supervisor import Bridge

logger = logging.getLogger(__name__)


def reload(bridge: Bridge, settings: Settings) -> None:
    """Read the TLS files and the keys again; no answer and no connection is ended by it.

    The session log needs nothing: each line goes to the file that stands there then.
    """
    taken = []
    if bridge.live_tls is not None:
        try:
            renewed = bridge.live_tls.renew()
        except ListenError as error:
            logger.error("not reloaded: %s The certificate read before stays in force.", error)
        else:
            taken.append("the TLS files" if renewed else "the TLS files (unchanged)")
    bridge.access.refresh()
    taken.append(f"the keys ({len(bridge.access.keys)})")
    logger.info("reloaded: %s", ", ".join(taken))
    for name in _changed(bridge, settings):
        logger.warning("not reloaded: %s has changed, which takes a restart", name)
    logger.info("environment variables and flags are those of the start until a restart")


def _changed(bridge: Bridge, settings: Settings) -> Iterator[str]:
    """What has changed since the start and holds until the end."""
    try:
        prompt = settings.system_prompt()
    except OSError:
        prompt = None
    if prompt != bridge.system_prompt:
        yield f"the file of BRIDGE_SYSTEM_PROMPT, {settings.bridge_system_prompt},"
    launcher = bridge.engine.launcher
    reads_user = "user" in settings.bridge_setting_sources and bridge.simulator is None
    if reads_user and read_user_settings(os.environ) != launcher.user_settings:
        yield "the model or the login in Claude Code's own settings.json"
