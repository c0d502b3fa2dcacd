"""A server whose Claude Code would ask the server itself does not start."""

from __future__ import annotations

import pytest

from bridge.server.launching import check_base_url
from bridge.server.start_error import StartError


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000",
        "http://localhost:8000/v1",
        "http://[::1]:8000",
        "http://bridge.example:8000",
    ],
)
def test_the_servers_own_address_is_refused(url: str) -> None:
    with pytest.raises(StartError, match="ANTHROPIC_BASE_URL"):
        check_base_url(url, "bridge.example", 8000)


@pytest.mark.parametrize(
    "url",
    ["", "https://api.anthropic.com", "http://127.0.0.1:9000", "http://127.0.0.1:x", "nonsense"],
)
def test_any_other_address_is_fine(url: str) -> None:
    check_base_url(url, "127.0.0.1", 8000)
