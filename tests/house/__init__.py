"""Rules for the whole source tree. Each check is also tested on an example that it must reject."""
