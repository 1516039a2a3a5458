"""Show numbers to Prometheus: the formats, those of a watch, and a server of them with a health check."""
