"""Classical descriptions of sound: harmony and percussion, chroma, rhythm, spectral shape."""
