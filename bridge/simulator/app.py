"""The ASGI application: reads a request, decides with the pure modules, sends the answer."""

import secrets
import string
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from bridge.simulator import accounts, script
from bridge.simulator.accounts import Accounts
from bridge.simulator.admin import Admin
from bridge.simulator.api import (
    FAILURES,
    Failure,
    Gone,
    Message,
    PromptCache,
    Receive,
    Refused,
    Send,
    answers,
    invalid,
    parsed,
    prefixes,
    read,
    respond,
    rules,
    should_retry,
    stream,
)
from bridge.simulator.delivery import Delivery, Plan
from bridge.simulator.ledger import Ledger, credential
from bridge.simulator.playing import Scripts
from bridge.simulator.script import BadDirective, Directive

# The CLI's request at its start, to check whether the API can be reached.
_GREETINGS = ("", "/api/hello")
# Maximum number of scripted failures that are counted.
_KEEP_FAILURES = 10_000
_ID_ALPHABET = string.ascii_letters + string.digits


class Application:
    """The Messages API. `abort` resets the connection of a scope.

    While `login_accepted` is false, every request is refused because of an expired login.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        cache: PromptCache,
        pace_ms: float,
        abort: Callable[[Message], None],
    ) -> None:
        self.login_accepted = True
        self.accounts = Accounts()
        self.scripts = Scripts()
        self.delivery = Delivery(ledger, abort)
        self._admin = Admin(ledger, self.accounts, self.scripts)
        self._ledger = ledger
        self._cache = cache
        self._unscripted = Directive(delay_ms=pace_ms)
        self._failures: Counter[tuple[str, int]] = Counter()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        request_id = new_id("req_")
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        try:
            await self._route(scope, headers, request_id, receive, send)
        except Refused as refused:
            failure = refused.failure
            body = stream.error_json(failure.type, failure.message, request_id)
            retry = {"x-should-retry": should_retry(failure.status)}
            await respond(send, failure.status, body, request_id, {**retry, **failure.headers})
        except Gone:
            pass

    async def _route(
        self,
        scope: Message,
        headers: Mapping[str, str],
        request_id: str,
        receive: Receive,
        send: Send,
    ) -> None:
        method, path = scope["method"], scope["path"].rstrip("/")
        if method == "POST" and path == "/v1/messages":
            await self._messages(scope, headers, request_id, receive, send)
        elif method == "POST" and path == "/v1/messages/count_tokens":
            body = parsed(await read(receive))
            self._authenticate(headers)
            _check({"max_tokens": 1 << 20, **body})
            blocks = prefixes(body)
            count = {"input_tokens": blocks[-1].tokens if blocks else 0}
            await respond(send, 200, count, request_id)
        elif method == "GET" and path == "/api/oauth/usage" and "authorization" in headers:
            usage = self.accounts.usage(credential(headers), self._authenticate(headers))
            await respond(send, 200, usage, request_id)
        elif method in ("GET", "HEAD") and path in _GREETINGS:
            await respond(send, 200, {"simulator": "Anthropic Messages API"}, request_id)
        elif (answer := await self._admin.answer(method, path, receive)) is not None:
            await respond(send, *answer, request_id)
        else:
            raise Refused(Failure(404, "not_found_error", "Not found"))

    async def _messages(
        self,
        scope: Message,
        headers: Mapping[str, str],
        request_id: str,
        receive: Receive,
        send: Send,
    ) -> None:
        raw = await read(receive)
        try:
            body: Mapping[str, Any] = parsed(raw)
        except Refused:
            number = self._ledger.begin(headers, {})
            self._ledger.answer(number, 400)
            self._ledger.end(number, "refused")
            raise
        number = self._ledger.begin(headers, body)
        try:
            account = self._authenticate(headers)
            refusal = self.accounts.refusal(credential(headers), account, body)
            if refusal is not None:
                own = accounts.limits(account, headers)
                raise Refused(replace(refusal, headers={**own, **refusal.headers}))
            plan = self._plan(number, request_id, body, accounts.limits(account, headers))
        except Refused as refused:
            self._ledger.answer(number, refused.failure.status)
            self._ledger.end(number, "refused")
            raise
        await self.delivery.deliver(plan, scope, receive, send)

    def _authenticate(self, headers: Mapping[str, str]) -> accounts.Account:
        borne = credential(headers)
        if not borne:
            message = "x-api-key header is required"
            raise Refused(Failure(401, "authentication_error", message))
        if not self.login_accepted:
            raise Refused(FAILURES["expired"])
        account = self.accounts.find(borne)
        if account is None:
            key = "x-api-key" in headers
            raise Refused(FAILURES["invalid_key" if key else "invalid_credentials"])
        return account

    def _plan(
        self, number: int, request_id: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> Plan:
        _check(body)
        try:
            directive = self._directive(body, headers)
            reply = answers.reply(body, directive, new_id)
        except BadDirective as error:
            raise invalid(f"bad directive: {error}") from None
        delivery = directive or self._unscripted
        envelope = stream.Envelope(
            id=new_id("msg_01"),
            model=str(body["model"]),
            usage=self._cache.account(body).usage(),
            usage_override=delivery.usage,
            context_management="context_management" in body,
            omit_thinking=(body.get("thinking") or {}).get("display") == "omitted",
        )
        return Plan(
            number,
            request_id,
            reply,
            envelope,
            delivery,
            streamed=body.get("stream") is True,
            headers={**headers, **{k.lower(): v for k, v in delivery.headers.items()}},
        )

    def _directive(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> Directive | None:
        """Return the directive that defines the answer, or None. Refused if it is invalid."""
        found = script.find(body)
        if found is None:
            return None
        directive, key = found.in_force, found.key
        if directive is not None and directive.script is not None:
            directive, key = self.scripts.next(directive, body)
        if directive is not None and directive.whole is not None and body.get("stream") is not True:
            directive, key = directive.whole, (f"whole {key[0]}", key[1])
        if directive is not None and directive.error is not None:
            self._fail(directive.error, key, headers)
        return directive

    def _fail(self, failure: Failure, key: tuple[str, int], headers: Mapping[str, str]) -> None:
        """Refuse as scripted, unless this directive has already failed often enough."""
        if failure.times is not None:
            if self._failures[key] >= failure.times:
                return
            self._failures[key] += 1
            while len(self._failures) > _KEEP_FAILURES:
                del self._failures[next(iter(self._failures))]
        raise Refused(replace(failure, headers={**headers, **failure.headers}))


def new_id(prefix: str) -> str:
    """Return an id in the API's format: `req_011…`, `msg_01…`, `toolu_01…`."""
    prefix = prefix if prefix[-1].isdigit() else f"{prefix}01"
    return prefix + "".join(secrets.choice(_ID_ALPHABET) for _ in range(22))


def _check(body: Mapping[str, Any]) -> None:
    error = rules.check(body)
    if error is not None:
        raise Refused(Failure(error.status, error.type, error.message))
