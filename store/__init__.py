"""Rows and files: the registry's database, durable files, errors, settings. Computes nothing; no torch, no HTTP."""
