"""The commands that start processes or open the data root."""
