"""Measurements of the real service on the machine at hand; loopback only, bounded in time. No test asserts a time."""
