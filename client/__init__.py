"""The command line and the HTTP client of a running service."""
