"""Essentia's published networks (Discogs-EffNet and heads): their files, and the front end that feeds them."""
