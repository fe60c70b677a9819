"""`pictoglot import`: from a folder, a manifest, a tar, a bucket or a IIIF manifest into the gallery."""
