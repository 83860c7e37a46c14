"""The release and the distribution's name, in the one place that setup.cfg, messages and the User-Agent read."""

__version__ = "0.1.0"

DISTRIBUTION = "shipper-logs"
"""What `pip install` takes; the package that is imported is `shipper`. (On PyPI, `shipper` is another project.)"""
