"""Emoji-36: continual language learning on pictures of emoji, in the 36 languages and the order of the paper."""
