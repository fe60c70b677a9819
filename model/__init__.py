"""What a multilingual CLIP is: its base, its tokenizers, its rows, its versions. Knows no HTTP, no Celery, no FAISS."""
