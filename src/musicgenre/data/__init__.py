"""Labelled music: manifests, splits, audits, data sets and feature stores."""
