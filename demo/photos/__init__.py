"""How the bundled base for photographs is made, from packages alone: `python -m demo.photos`."""
