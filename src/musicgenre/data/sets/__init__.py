"""Published data sets, one file each: a card (licence, citation, origin) and how to index it."""

from musicgenre.data.sets.registry import Archive, DataSet, get_set, list_sets, set_that_reads

__all__ = ["Archive", "DataSet", "get_set", "list_sets", "set_that_reads"]
