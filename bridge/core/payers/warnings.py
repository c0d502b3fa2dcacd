"""What the operator should know at every start about who pays for whom. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bridge.core.payers.choice import Option


def account_warnings(
    options: Sequence[Option], unmarked: Sequence[str], *, share_login: bool, beyond_loopback: bool
) -> Iterator[str]:
    """Yield a sentence for each; `unmarked` are the keys that do not say whose they are."""
    if share_login:
        yield (
            "BRIDGE_SHARE_LOGIN=1: subscription logins also serve keys that are not marked as "
            "yours. By what is reported of Anthropic's terms, a login is for its owner's own use "
            "(docs/accounts.md)."
        )
    if unmarked:
        yield (
            f"not marked, so they count as yours: {', '.join(unmarked)}. Mark each key: bridge "
            "keys edit NAME --mine, or --payer PAYER if it is someone else's; in BRIDGE_API_KEYS, "
            "NAME:mine=SECRET."
        )
    if beyond_loopback and all(option.subscription for option in options):
        yield (
            "other machines can reach this server, and a subscription login alone pays: by what is "
            "reported of Anthropic's terms, it is for your own use. For other people's requests "
            "add a payer with an API key or a cloud provider (docs/accounts.md)."
        )
