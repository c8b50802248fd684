"""Samplers, encoders, training, inference and domains; the only home of torch."""
