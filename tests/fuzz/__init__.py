"""Generated inputs by the thousand; `make fuzz`. Each is answered, or refused with a documented code."""
