"""Credentials, each with what the API accepts from it. Pure except for its counts."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from bridge.simulator.api import FAILURES, Failure, Refused
from bridge.simulator.ledger import text_of
from bridge.simulator.script import BadDirective, checked, failure

_CLAUDE_CODE = re.compile(r"You are (?:Claude Code|a Claude agent)")


@dataclass(frozen=True, slots=True)
class Account:
    """What the API accepts from a credential; by default everything.

    `failure` answers every request. `refuses` has lists of fields by model, "" for all models: a
    field is a path with dots, and with `=value` only that value is refused. `models` are words; a
    model is served if its name contains one of them. `limited` are words of models whose usage
    limit is reached, "" for all. After this many `requests` the usage limit is reached for every
    model. `headers` are added to every answer, such as the state of the limits. `usage` is the
    share of each limit that is used, in percent, as Claude Code's `/usage` asks for it.
    """

    failure: Failure | None = None
    refuses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    models: tuple[str, ...] | None = None
    limited: tuple[str, ...] = ()
    requests: int | None = None
    claude_code_only: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    usage: Mapping[str, Any] = field(default_factory=dict)

    def refusal(self, body: Mapping[str, Any], before: int) -> Failure | None:
        """Return why this request is refused after `before` accepted ones, or None."""
        if self.failure is not None:
            return self.failure
        model = str(body.get("model"))
        if self.models is not None and not any(word in model for word in self.models):
            return Failure(404, "not_found_error", f"model: {model}")
        used_up = self.requests is not None and before >= self.requests
        if used_up or any(word in model for word in self.limited):
            return FAILURES["usage_limit"]
        if self.claude_code_only and not _CLAUDE_CODE.search(text_of(body.get("system"))):
            return FAILURES["claude_code_only"]
        for word, fields in self.refuses.items():
            found = next((name for name in fields if _has(body, name)), None)
            if word in model and found is not None:
                message = f"{found.partition('=')[0]}: Extra inputs are not permitted"
                return Failure(400, "invalid_request_error", message)
        return None


EVERYTHING = Account()
LITTLE = Account(
    refuses={
        "": (
            "output_config.format",
            "temperature",
            "top_p",
            "top_k",
            "stop_sequences",
            "tool_choice.type=any",
            "tool_choice.type=tool",
            "tool_choice.disable_parallel_tool_use",
        )
    },
    claude_code_only=True,
)
"""A plain answer and tools, without optional fields."""
NOTHING = Account(failure=FAILURES["organization_disabled"])
_NAMED = {"everything": EVERYTHING, "little": LITTLE, "nothing": NOTHING}


class Accounts:
    """The accounts by credential; if there are none, any credential is accepted.

    `refresh_tokens` maps a refresh token to its credential: others are an `invalid_grant`.
    `usage_reads` are the credentials that `usage` was called with.
    """

    def __init__(self) -> None:
        self.usage_reads: list[str] = []
        self.by_credential: dict[str, Account] = {}
        self.refresh_tokens: dict[str, str] = {}
        self._accepted: Counter[str] = Counter()

    def find(self, credential: str) -> Account | None:
        """Return the account of a credential, or None."""
        return self.by_credential.get(credential) if self.by_credential else EVERYTHING

    def refusal(self, credential: str, account: Account, body: Mapping[str, Any]) -> Failure | None:
        """Return why a request is refused, or None: then it counts as accepted."""
        found = account.refusal(body, self._accepted[credential])
        if found is None:
            self._accepted[credential] += 1
        return found

    def usage(self, credential: str, account: Account) -> dict[str, Any]:
        """Return the limits of a plan, in the form that Claude Code reads: unused ones, by default.

        Refused if the account is.
        """
        self.usage_reads.append(credential)
        if account.failure is not None:
            raise Refused(account.failure)
        unused = {"utilization": 0.0, "resets_at": None}
        return {"five_hour": unused, "seven_day": unused, **account.usage}

    def load(self, value: object) -> None:
        """Replace everything by the JSON object {accounts, refresh_tokens}. BadDirective."""
        kinds = {
            "accounts": (_object, "an object: accounts by credential"),
            "refresh_tokens": (_texts, "an object: credentials by refresh token"),
        }
        given = checked(value, kinds, "accounts")
        by_credential = {key: parse(item) for key, item in given.get("accounts", {}).items()}
        self.by_credential = by_credential
        self.refresh_tokens = dict(given.get("refresh_tokens", {}))
        self._accepted.clear()


def parse(value: object) -> Account:
    """Parse an account from JSON: a name, or an object with the fields of Account."""
    if isinstance(value, str):
        if value not in _NAMED:
            raise BadDirective(f"account: {value!r} is not one of {', '.join(_NAMED)}")
        return _NAMED[value]
    kinds = {
        "like": (lambda name: name in _NAMED, f"one of {', '.join(_NAMED)}"),
        "failure": (None, "a failure"),
        "refuses": (_object, "an object: lists of fields by model"),
        "models": (lambda words: isinstance(words, list), "a list of words in models' names"),
        "limited": (lambda words: isinstance(words, list), "a list of words in models' names"),
        "requests": (lambda count: isinstance(count, int), "a count"),
        "claude_code_only": (lambda flag: isinstance(flag, bool), "true or false"),
        "headers": (_texts, "strings by name"),
        "usage": (_object, "an object: limits by name"),
    }
    given = checked(value, kinds, "account")
    account = _NAMED[given.pop("like", "everything")]
    if "failure" in given:
        given["failure"] = failure(given["failure"], "account.failure")
    for name in given.keys() & {"models", "limited"}:
        given[name] = tuple(given[name])
    if "refuses" in given:
        given["refuses"] = {model: tuple(names) for model, names in given["refuses"].items()}
    return replace(account, **given)


def limits(account: Account, headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return the headers that the API sends with an answer to this account.

    https://platform.claude.com/docs/en/api/rate-limits: a key's answers have its limits. Those of a
    subscription (`anthropic-ratelimit-unified-…`) are sent if the account has them.
    """
    own = _KEY_LIMITS if headers.get("x-api-key") else {}
    return {"anthropic-organization-id": _ORGANIZATION, **own, **account.headers}


_ORGANIZATION = "00000000-0000-4000-8000-000000000000"
_RESET = "2100-01-01T00:00:00Z"
_KEY_LIMITS = MappingProxyType(
    {
        f"anthropic-ratelimit-{kind}-{what}": value
        for kind, limit in (
            ("requests", "4000"),
            ("input-tokens", "2000000"),
            ("output-tokens", "400000"),
            ("tokens", "2400000"),
        )
        for what, value in (("limit", limit), ("remaining", limit), ("reset", _RESET))
    }
)


def _has(body: Mapping[str, Any], name: str) -> bool:
    path, equals, wanted = name.partition("=")
    value: object = body
    for key in path.split("."):
        if not isinstance(value, Mapping) or value.get(key) is None:
            return False
        value = value[key]
    return not equals or value == wanted


def _object(value: object) -> bool:
    return isinstance(value, dict)


def _texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
