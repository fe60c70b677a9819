"""How records and their filters hold up in a large gallery. Each figure is a module of its own."""
