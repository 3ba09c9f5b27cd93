"""Networks that others trained and published, as they hear: what stands between sound and embedding."""
