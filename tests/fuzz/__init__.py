"""Thousands of generated inputs; `make fuzz`. Each is answered, or refused with a documented code."""
