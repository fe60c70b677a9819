"""`pictoglot import`: from a folder, a manifest or a IIIF manifest into the gallery."""
