"""`/healthz`, `/readyz`, `/config` and `/metrics`."""
