"""Pictures of digits that MNIST lacks, and of what is no digit: made by code, once, to a file.

``drawn``: characters as strokes of a pen, in the styles in which people write them; ``printed``:
characters of fonts, and of displays with segments; ``others``: pieces, pairs and marks that are no
digit; ``paper``: ink becomes a picture, which :func:`fastdigit.normalize` prepares as it does a
user's. ``collection`` puts them together: ``python -m export.pictures``.
"""
