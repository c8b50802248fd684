"""Figures of answers, with the numbers they show."""
