"""Eight methods of continual learning on Emoji-36, each without and with TEIR; `python -m benchmarks.methods`."""
