"""A gallery of a million pictures on this machine: made-up vectors through the project's own layers, no model."""
