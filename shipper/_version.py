"""The release, in the one place that setup.cfg, the door and the User-Agent read."""

__version__ = "0.1.0"
