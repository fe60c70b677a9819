"""Real photographs and people's words for them in about 60 languages: the stamps of Tux Paint."""
