"""Tests of the house: rules that the whole tree keeps. Each guard here is also shown to find what it forbids."""
