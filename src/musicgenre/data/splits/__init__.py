"""Protocols: how tracks are split, written into the manifest and repeatable from the seed alone."""

from musicgenre.data.splits.folds import SPLIT_BEFORE, VALIDATION_SHARE, take_fold, with_validation
from musicgenre.data.splits.registry import (
    Protocol,
    SplitRecord,
    get_protocol,
    list_protocols,
    protocol_of,
    split,
)
from musicgenre.data.splits.segment_leaky import segment_leaky_parts

__all__ = [
    "SPLIT_BEFORE",
    "VALIDATION_SHARE",
    "Protocol",
    "SplitRecord",
    "get_protocol",
    "list_protocols",
    "protocol_of",
    "segment_leaky_parts",
    "split",
    "take_fold",
    "with_validation",
]
