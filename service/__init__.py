"""HTTP: what clients may ask of the gallery, the languages and the expansions. Trains nothing."""
