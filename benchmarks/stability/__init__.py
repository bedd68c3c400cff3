"""The parts of ladder.py."""
