"""The HTTP API over gallery, languages and expansions, the web page, and commands that start both. Trains nothing."""
