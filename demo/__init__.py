"""The emoji gallery, its datasets in 14 languages and the bundled base's training, from pip packages alone."""
