"""Stores pictures, captions and their vectors, and searches them. Knows nothing of HTTP and does not train models."""
