"""The commands about accounts: `bridge payers` and `bridge login`."""

from bridge.cli.accounts.login import login
from bridge.cli.accounts.payers import payers

__all__ = ["login", "payers"]
