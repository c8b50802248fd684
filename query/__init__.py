"""Answers from the store: regions, genes and domains across sections."""

from .domain_view import DomainView, domains
from .empty import EmptyAnswerWarning
from .files import export
from .gene_view import GeneView, gene
from .genes import UnmeasuredWarning
from .mixture import MixedValuesWarning
from .obs import CategoryOrderWarning, StaleLabelsWarning
from .parser import parse
from .places import Box, Circle, Place, Polygon, place, polygon
from .plan import QueryPlan, SectionPlan
from .predicate import And, Compare, In, Not, Null, Or, Predicate, StringTest
from .question import Question
from .selection import Selection
from .value_counts import values
from .verbs import region, select

__all__ = [
    "And",
    "Box",
    "CategoryOrderWarning",
    "Circle",
    "Compare",
    "DomainView",
    "EmptyAnswerWarning",
    "GeneView",
    "In",
    "MixedValuesWarning",
    "Not",
    "Null",
    "Or",
    "Place",
    "Polygon",
    "Predicate",
    "QueryPlan",
    "Question",
    "SectionPlan",
    "Selection",
    "StaleLabelsWarning",
    "StringTest",
    "UnmeasuredWarning",
    "domains",
    "export",
    "gene",
    "parse",
    "place",
    "polygon",
    "region",
    "select",
    "values",
]
