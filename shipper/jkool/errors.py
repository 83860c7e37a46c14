"""What tnt4py's handler raised."""

from __future__ import annotations

from ..errors import ShipperError


class AuthorizationError(ShipperError):
    """The service refuses the token. Here so that an ``except`` of it still stands: our handler never raises it.

    The token is shown to the service by the shipper process, later. A refusal throws nothing away: the events wait,
    the process says so once, loudly, and the backend's state in `shipper.status` is "unauthorised" until it is right.
    """

    def __init__(self, value: object = "") -> None:
        super().__init__(value)
        self.value = value

    def __str__(self) -> str:
        return repr(self.value)
