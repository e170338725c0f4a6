"""Transfers too long to emulate: how much of them is, if that was steady, and what the whole would have been.

Knows events and rounds; nothing here runs while something is measured.
"""
