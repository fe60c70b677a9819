"""Learns languages in the background: takes expansions from the registry and carries them to a release."""
