"""SIGHUP: reload what can change while the server runs, and name what needs a restart."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bridge.core.claude import read_user_settings
from bridge.core.payers import Payer, PayerError, PayerFile
from bridge.server.addresses import ListenError

if TYPE_CHECKING:
    from bridge.server.settings import Settings
    from bridge.server.supervisor import Bridge

logger = logging.getLogger(__name__)


def reload(bridge: Bridge, settings: Settings) -> None:
    """Reload the TLS files and the keys. No answer and no connection is interrupted.

    The session log needs no reload: each line is appended to the file at that path.
    """
    reloaded = []
    if bridge.live_tls is not None:
        try:
            renewed = bridge.live_tls.renew()
        except ListenError as error:
            logger.error("not reloaded: %s The previous certificate stays in use.", error)
        else:
            reloaded.append("the TLS files" if renewed else "the TLS files (unchanged)")
    bridge.access.refresh()
    reloaded.append(f"the keys ({len(bridge.access.keys)})")
    logger.info("reloaded: %s", ", ".join(reloaded))
    for name in _changed(bridge, settings):
        logger.warning("not reloaded: %s has changed; restart to apply it", name)
    logger.info("environment variables and flags are only read at start")


def _payers(settings: Settings) -> tuple[Payer, ...] | None:
    """The list of payers; None if it cannot be read."""
    try:
        return PayerFile(settings.bridge_state_dir).read()
    except PayerError:
        return None


def _changed(bridge: Bridge, settings: Settings) -> Iterator[str]:
    """What has changed since the start but needs a restart."""
    try:
        prompt = settings.system_prompt()
    except OSError:
        prompt = None
    if prompt != bridge.system_prompt:
        yield f"the BRIDGE_SYSTEM_PROMPT file {settings.bridge_system_prompt}"
    if bridge.simulator is None and _payers(settings) != bridge.payers:
        yield "the list of payers"
    launcher = bridge.engine.launcher
    reads_user = "user" in settings.bridge_setting_sources and bridge.simulator is None
    if reads_user and read_user_settings(os.environ) != launcher.user_settings:
        yield "the model or the login in Claude Code's own settings.json"
