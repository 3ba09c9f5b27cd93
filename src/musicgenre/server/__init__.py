"""Serve listeners over HTTP: the API, its documents, and the page that people use. It needs the extra `serve`."""
