"""Graphs between registered serial sections."""
