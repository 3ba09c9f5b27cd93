"""One portable model file: build, fetch, check and load it."""

from musicgenre.bundle.card import BundleCard
from musicgenre.bundle.container import save_bundle
from musicgenre.bundle.ensemble import EnsembleBundle, load_ensemble
from musicgenre.bundle.load import Bundle, BundleFile, load_bundle, open_bundle, read_card
from musicgenre.bundle.store import (
    bundle_path,
    ensure_bundle,
    ensure_default,
    get_bundles,
    get_default,
    get_on_terms,
    list_bundles,
    remove_bundles,
    verify_bundles,
)

__all__ = [
    "Bundle",
    "BundleCard",
    "BundleFile",
    "EnsembleBundle",
    "bundle_path",
    "ensure_bundle",
    "ensure_default",
    "get_bundles",
    "get_default",
    "get_on_terms",
    "list_bundles",
    "load_bundle",
    "load_ensemble",
    "open_bundle",
    "read_card",
    "remove_bundles",
    "save_bundle",
    "verify_bundles",
]
