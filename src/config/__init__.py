"""What the service is told: settings, flags, and how it logs."""
