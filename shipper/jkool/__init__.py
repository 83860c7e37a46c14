"""The jKool client: what tnt4py's README promises, delivered by the shipper process.

An application moves over by changing its import lines: ``from shipper.jkool import streaming``. Everything goes through
the same queue, journal and process as every log record; nothing is printed, and no call waits for the network.
"""

from . import metrics, streaming

__all__ = ["metrics", "streaming"]
