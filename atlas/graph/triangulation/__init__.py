"""Delaunay graphs: exact predicates, a mesh that points are added to, stars and their certificates.

`source` is the way in; the rest is imported where triangles are computed.
"""
