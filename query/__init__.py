"""Answers from the store: regions, genes and domains across sections."""

from .cells.empty import EmptyAnswerWarning, UnknownCellsWarning
from .cells.plan import QueryPlan, SectionPlan
from .cells.question import Question
from .cells.selection import Selection
from .cells.verbs import select
from .differences import CellsAsReplicatesWarning, UnmatchedReplicatesWarning, diff
from .exports.files import export
from .expression.choice import UnmeasuredWarning
from .expression.mixture import MixedValuesWarning
from .expression.summarize import SummaryReport, summarize
from .expression.view import GeneView, gene
from .filters.expression import col
from .filters.parser import parse
from .filters.predicate import And, Compare, In, Not, Null, Or, Predicate, StringTest
from .geometry.annotate import annotate_regions
from .geometry.ask import region
from .geometry.by_section import Nowhere, PlacesBySection, StalePlacesWarning, place_of
from .geometry.frames import UnregisteredWarning, register
from .geometry.given import place, polygon
from .geometry.places import Box, Circle, Place, Polygon
from .labels.annotate import annotate
from .labels.view import DomainView, domains
from .retrieval.hits import Hits
from .retrieval.similar import UnindexedWarning
from .retrieval.verbs import build_index, rank_cells, similar
from .tables.joined import CategoryOrderWarning
from .tables.obs import StaleLabelsWarning
from .tables.value_counts import values

__all__ = [
    "And",
    "Box",
    "CategoryOrderWarning",
    "CellsAsReplicatesWarning",
    "Circle",
    "Compare",
    "DomainView",
    "EmptyAnswerWarning",
    "GeneView",
    "Hits",
    "In",
    "MixedValuesWarning",
    "Not",
    "Nowhere",
    "Null",
    "Or",
    "Place",
    "PlacesBySection",
    "Polygon",
    "Predicate",
    "QueryPlan",
    "Question",
    "SectionPlan",
    "Selection",
    "StaleLabelsWarning",
    "StalePlacesWarning",
    "StringTest",
    "SummaryReport",
    "UnindexedWarning",
    "UnknownCellsWarning",
    "UnmatchedReplicatesWarning",
    "UnmeasuredWarning",
    "UnregisteredWarning",
    "annotate",
    "annotate_regions",
    "build_index",
    "col",
    "diff",
    "domains",
    "export",
    "gene",
    "parse",
    "place",
    "place_of",
    "polygon",
    "rank_cells",
    "region",
    "register",
    "select",
    "similar",
    "summarize",
    "values",
]
