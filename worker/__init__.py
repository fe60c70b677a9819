"""Teaches languages in the background: takes expansions from the registry, one at a time, and carries them to a release."""
