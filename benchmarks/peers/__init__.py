"""Our service beside its peers, infinity-emb and clip-retrieval, all with the same weights."""
