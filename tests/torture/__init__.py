"""Torture: a seeded history of requests and faults against real processes, checked against a model in plain Python.

It knows the service as a stranger does: HTTP, the command line, signals, files, and the settings of docs/settings.md.
It imports nothing of `model`, `index`, `service` and `worker`, so that it survives a rebuild of everything inside.
"""
