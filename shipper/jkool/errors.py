"""The exception that tnt4py's handler raised."""

from __future__ import annotations

from ..errors import ShipperError


class AuthorizationError(ShipperError):
    """The service refuses the token. Never raised: it exists so that an ``except`` clause with it still works.

    The shipper process sends the token later. When it is refused no event is lost: the events wait, the process logs an
    error, and the backend's state in `shipper.status` is "unauthorised" until the token is accepted.
    """

    def __init__(self, value: object = "") -> None:
        super().__init__(value)
        self.value = value

    def __str__(self) -> str:
        return repr(self.value)
