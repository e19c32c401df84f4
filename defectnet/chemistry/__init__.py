"""What is known of elements, ions and formulas: two small tables, and the arithmetic of compositions.

`elements.json` and `ions.json` were made by `examples/make_chemistry.py` from the data of pymatgen (MIT License,
copyright 2011-2012 MIT and The Regents of the University of California), so that a prediction need not install it.
"""
