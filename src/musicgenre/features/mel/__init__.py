"""Mel spectrograms: one specification, its float64 truth, the fast code, and the nodes of an ONNX graph."""
