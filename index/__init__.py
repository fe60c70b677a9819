"""Vectors and pictures: what is searched, kept on disk and swapped in memory. Knows no HTTP and trains nothing."""
