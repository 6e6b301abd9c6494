"""What a bridge counts, for Prometheus and whoever reads its format (`--metrics`).

- :mod:`.exposition`: families of samples as text, in Prometheus' form and in OpenMetrics'.
- :mod:`.families`: a bridge's state as families.
- :mod:`.server`: the little of HTTP that a scrape needs.
"""

from .server import MetricsServer

__all__ = ["MetricsServer"]
