"""What a multilingual CLIP is: its base, its tokenizers, its token-embedding rows, its versions. Knows no HTTP, no Celery, no FAISS."""
