"""One abstract suite per port; each adapter, and each fake, runs it."""
