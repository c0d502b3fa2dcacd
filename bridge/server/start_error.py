"""Why a server does not start."""


class StartError(Exception):
    """The server cannot start. The message says why and what to do."""
