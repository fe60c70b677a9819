"""The HTTP API over the gallery, languages and expansions, the web page and the command line. Trains nothing."""
