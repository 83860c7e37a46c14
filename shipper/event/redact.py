"""Mask secrets in an event: the settings, and the walk over an event's fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigurationError, suggest_keywords
from .codec import sanitize_event
from .model import Event
from .secrets.keys import KeyRules, is_secret
from .secrets.names import OPEN, normalized
from .secrets.texts import TextMasker
from .secrets.values import is_plain_word

_WIRE = ("trakerr", "jkool")  # extras whose items are fields of a service's events
_SERVICE_FIELDS = ("apiKey", "eventSession")
"""Fields of these services that look secret and are sent on purpose, in any spelling."""


@suggest_keywords
@dataclass(frozen=True)
class Redact:
    """What is masked, and with what.

    ``enabled``: False masks nothing (True). ``keys``: more words that make a key secret (none). ``patterns``: more
    regular expressions (none); what they match in any text is masked, their group 1 alone when they have groups.
    ``mask``: the text in place of a secret ("[redacted]"). ``allow``: whole keys that look secret but are not (none).

    Words are compared without regard to case and separators: "card-code" is also cardCode, CARD_CODE, "card code".
    Raises `ConfigurationError` for wrong values, among them patterns that take exponential time.
    """

    enabled: bool = True
    keys: tuple[str, ...] = ()
    patterns: tuple[str, ...] = field(default=(), metadata={"in_environment": "lines"})  # many patterns contain a comma
    mask: str = "[redacted]"
    allow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.enabled, bool):
            raise ConfigurationError("redact.enabled", self.enabled, "True or False")
        if not isinstance(self.mask, str):
            raise ConfigurationError("redact.mask", self.mask, "a text")
        for setting in ("keys", "patterns", "allow"):
            object.__setattr__(self, setting, _texts(f"redact.{setting}", getattr(self, setting)))
        for setting in ("keys", "allow"):
            for word in getattr(self, setting):
                if not normalized(word):
                    raise ConfigurationError(f"redact.{setting}", word, "a word with a letter or a digit in it")
        if self.patterns:
            from .secrets.own_patterns import compiled  # most applications have none

            for pattern in self.patterns:
                compiled(pattern)


def _texts(setting: str, values: object) -> tuple[str, ...]:
    if not isinstance(values, list | tuple | set | frozenset) or not all(isinstance(one, str) for one in values):
        raise ConfigurationError(setting, values, "a tuple of texts")
    return tuple(values)


Guard = Callable[[Callable[[str], str]], Callable[[str], str]]


class Redactor:
    """Masks secrets in an event, in place.

    A value is secret when its key, at any depth, has a word like password, passwd, pwd, secret, token, authorization,
    api key, access key, private key, credential, cookie, session, csrf, credit card, card number, cvv or ssn in it, or
    one of ``Redact.keys``. Such a value is masked as a whole, except for

    * booleans, None, empty values and others that `secrets.keys` lists,
    * numbers whose key says that they measure something: session_count, max_tokens, token_ttl, prompt_tokens, and
    * values whose key says that they describe a secret: session_start, authorization_url, token_type.

    {"name": "password", "value": "x"}, ["password", "x1"] and ["--password", "x1"] count as a key and its value. The
    fields apiKey and eventSession of Trakerr's events are sent on purpose and stay.

    In every text - message, exceptions' messages and notes, stack, values - the same keys are looked for as
    ``key=value``, ``'key': 'value'``, ``"key": "value"``, ``key: value``, ``('key', 'value')``, ``--key value``,
    ``<key>value</key>`` and the like. Masked by their shape are user and password of a URL, bearer and basic
    credentials, JSON web tokens, private keys, the tokens of many services (GitHub, GitLab, Slack, Stripe, Google, AWS
    …), and what ``Redact.patterns`` match.

    ``guard``: wraps the function that applies ``Redact.patterns`` to a text, which may be slow.
    """

    def __init__(self, settings: Redact, guard: Guard = lambda function: function) -> None:
        self._enabled = settings.enabled
        self._mask = settings.mask
        self._rules = KeyRules(settings.keys, settings.allow)
        self._texts = TextMasker(self._rules, settings.mask)
        self._own: Callable[[str], str] | None = None
        if settings.patterns:
            from .secrets.own_patterns import OwnPatterns

            self._own = guard(OwnPatterns(settings.patterns, settings.mask))
        self.is_suspicious: Callable[[str], bool] = self._texts.is_suspicious
        """Whether anything in a text may have to be masked; cheap."""
        if not settings.enabled:
            self.is_suspicious = lambda text: False
        elif self._own is not None:
            self.is_suspicious = lambda text: True

    def __call__(self, event: Event, *, is_sanitized: bool = False) -> None:
        """Mask the event. ``is_sanitized``: whether it is known to hold plain data only."""
        if not self._enabled:
            return
        if not is_sanitized:
            sanitize_event(event)
        event.message = self._text(event.message)
        if event.stack:
            event.stack = self._text(event.stack)
        for exc in event.exceptions:
            exc.message = self._text(exc.message)
            if exc.notes:
                exc.notes = [self._text(note) for note in exc.notes]
        if event.extra:
            self._extras(event.extra)
        if event.context:
            self._mapping(event.context)
        if event.data:
            self._service_fields(event.data)

    def mask_text(self, text: str) -> str:
        """The text with its secrets masked."""
        return self._text(text) if self._enabled else text

    def is_open(self, key: str) -> bool:
        """Whether the key does not make its value secret."""
        return not self._enabled or self._rules.verdict(key) == OPEN

    # -- values --------------------------------------------------------------------------------------------------------

    def _extras(self, values: dict[str, Any]) -> None:
        for key, value in values.items():
            if key in _WIRE and type(value) is dict:
                self._service_fields(value)
                continue
            masked = self._under(key, value)
            if masked is not value:
                values[key] = masked

    def _service_fields(self, values: dict[str, Any]) -> None:
        for key, value in values.items():
            is_on_purpose = normalized(key).replace("_", "") in _SENT_ON_PURPOSE
            values[key] = self._value(value) if is_on_purpose else self._under(key, value)

    def _under(self, key: str, value: Any) -> Any:
        """Return the mask if the key makes the value secret, else the value, masked inside."""
        verdict = self._rules.verdict(key)
        if verdict != OPEN and is_secret(value, verdict):
            return self._mask
        return self._value(value)

    def _value(self, value: Any) -> Any:
        kind = type(value)
        if kind is str:
            return self._text(value)
        if kind is dict:
            self._mapping(value)
        elif kind is list:
            self._list(value)
        elif kind is bytes:
            return self._bytes(value)
        return value

    def _mapping(self, values: dict[str, Any]) -> None:
        for key, value in values.items():
            masked = self._under(key, value)
            if masked is not value:
                values[key] = masked
        for value_key, name_keys in _NAMED_VALUES:
            if value_key in values:
                name = next((values[key] for key in name_keys if key in values), None)
                if type(name) is str:
                    values[value_key] = self._under(name, values[value_key])
        if "number" in values and not _OF_CARDS.isdisjoint(values):
            values["number"] = self._under("card_number", values["number"])
        if "rows" in values and "columns" in values:
            self._table(values["columns"], values["rows"])

    def _table(self, columns: Any, rows: Any) -> None:
        """Mask the columns with secret names of a table, which `library_types` makes of a data frame."""
        if type(columns) is not list or type(rows) is not list:
            return
        names = [" ".join(map(str, name)) if type(name) is list else str(name) for name in columns]
        for row in rows:
            if type(row) is list:
                row[:] = [self._under(name, cell) for name, cell in zip(names, row, strict=False)] + row[len(names) :]

    def _list(self, values: list[Any]) -> None:
        is_pair = len(values) == 2
        for place, value in enumerate(values):
            before = _text_of(values[place - 1]) if place else None
            is_named = before is not None and (before.startswith("-") or (is_pair and not is_plain_word(value)))
            values[place] = self._under(before, value) if is_named and before else self._value(value)

    def _bytes(self, value: bytes) -> bytes:
        text = value.decode("latin-1")
        masked = self._text(text)
        return value if masked == text else masked.encode("latin-1", "replace")

    def _text(self, text: str) -> str:
        text = self._texts(text)
        return text if self._own is None else self._own(text)


_NAMED_VALUES = (("value", ("name", "key")), ("Value", ("Name", "Key")))  # the second spelling is that of AWS
_OF_CARDS = frozenset({"cvc", "cvv", "exp_month"})  # keys beside the number of a card
_SENT_ON_PURPOSE = frozenset(normalized(name).replace("_", "") for name in _SERVICE_FIELDS)


def _text_of(value: object) -> str | None:
    """Return text or bytes as text, else None: headers of an ASGI request are bytes."""
    if type(value) is bytes:
        return value.decode("latin-1")
    return value if type(value) is str else None
