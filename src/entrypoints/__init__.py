"""The ways in: the HTTP server and the command line."""
